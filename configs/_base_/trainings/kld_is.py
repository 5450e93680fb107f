# Divergence from a Gaussian around the label, half as wide as the noise (M-22).
training_loss = dict(type="KLDISLoss", target_std=0.5, num_noise_samples=64)
