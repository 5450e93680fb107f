# Score matching with the trace along one random direction (M-24).
training_loss = dict(type="ScoreMatchingLoss", kind="sliced", num_slices=1)
