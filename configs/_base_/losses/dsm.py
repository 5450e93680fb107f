# Denoising score matching, half as wide as the noise (M-24).
refinement_head = dict(loss=dict(_delete_=True, type="DSMLoss", std=0.5, num_noise_samples=16))
