# NCE with noise learned beside f (M-26).
_base_ = ["../ebm_second_simulated_cpu.py"]

model = dict(
    bbox_head=dict(
        refinement_head=dict(
            noise=dict(_delete_=True, type="LearnedProposal", base=_base_.refinement_head.noise)
        )
    )
)
