# NCE with a perturbed positive (M-21): beta multiplies the standard deviations.
training_loss = dict(type="NCEPlusLoss", beta=0.1, num_noise_samples=64)
