# NCE with noise around a noisy box (M-33).
training_loss = dict(type="ConditionalNCELoss", num_noise_samples=64)
