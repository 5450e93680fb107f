# The energy of ebm_second_kitti.py trained by KLD-IS.
_base_ = ["../ebm_second_kitti.py", "../_base_/trainings/kld_is.py"]

model = dict(bbox_head=dict(refinement_head=dict(loss=dict(_delete_=True, **_base_.training_loss))))
