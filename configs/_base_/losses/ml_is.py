# Likelihood with an importance-sampled normalizer (M-22).
refinement_head = dict(loss=dict(_delete_=True, type="MLISLoss", num_noise_samples=64))
