# Likelihood with an importance-sampled normalizer (M-22).
training_loss = dict(type="MLISLoss", num_noise_samples=64)
