# The energy of ebm_second_simulated_cpu.py trained by the self-normalized likelihood.
_base_ = ["../ebm_second_simulated_cpu.py", "../_base_/trainings/snl.py"]

model = dict(bbox_head=dict(refinement_head=dict(loss=dict(_delete_=True, **_base_.training_loss))))
