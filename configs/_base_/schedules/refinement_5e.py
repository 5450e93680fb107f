# The schedule of refinement_8e.py in fewer epochs, for data sets of twice the frames.
_base_ = "./refinement_8e.py"

schedule = _base_.refinement_schedule
schedule.param_scheduler[0].update(total_steps=5)
refinement_schedule = dict(
    param_scheduler=schedule.param_scheduler,
    train_cfg=dict(max_epochs=5, val_interval=5),
)
