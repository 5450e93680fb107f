# Score matching with the trace along one random direction (M-24).
refinement_head = dict(
    loss=dict(_delete_=True, type="ScoreMatchingLoss", kind="sliced", num_slices=1)
)
