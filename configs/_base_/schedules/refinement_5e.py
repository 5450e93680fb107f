# The schedule of refinement_8e.py in fewer epochs, for data sets of twice the frames.
_base_ = "./refinement_8e.py"
max_epochs = 5

param_scheduler = _base_.param_scheduler
param_scheduler[0].update(total_steps=max_epochs)
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
