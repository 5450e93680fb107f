# Likelihood with short Langevin chains, in units of the noise (M-23).
training_loss = dict(type="MLMCMCLoss", num_steps=16, step_size=0.1, num_chains=4)
