# Denoising score matching, half as wide as the noise (M-24).
training_loss = dict(type="DSMLoss", std=0.5, num_noise_samples=16)
