# Noise contrastive estimation (M-3).
refinement_head = dict(loss=dict(_delete_=True, type="NCELoss", num_noise_samples=64))
