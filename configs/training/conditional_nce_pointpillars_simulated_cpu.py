# The energy of ebm_pointpillars_simulated_cpu.py trained by conditional NCE.
_base_ = ["../ebm_pointpillars_simulated_cpu.py", "../_base_/trainings/conditional_nce.py"]

model = dict(bbox_head=dict(refinement_head=dict(loss=dict(_delete_=True, **_base_.training_loss))))
