# NCE whose noise lies, in part, where the detector errs (M-27).
_base_ = ["../ebm_second_simulated_cpu.py"]

model = dict(
    bbox_head=dict(
        refinement_head=dict(
            noise=dict(_delete_=True, type="DetectionNoise", base=_base_.refinement_head.noise)
        )
    )
)
