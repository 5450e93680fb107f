# Self-normalized likelihood: log Z is learned beside f (M-25).
training_loss = dict(type="SNLLoss", num_noise_samples=64)
