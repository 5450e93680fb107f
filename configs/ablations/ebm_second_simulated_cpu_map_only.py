# The default head without the points in the box: what the map alone can tell.
_base_ = ["../ebm_second_simulated_cpu.py"]

head = _base_.refinement_head
model = dict(bbox_head=dict(refinement_head=dict(pooling=head.pooling[:1])))
