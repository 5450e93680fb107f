# Likelihood with short Langevin chains, in units of the noise (M-23).
refinement_head = dict(
    loss=dict(_delete_=True, type="MLMCMCLoss", num_steps=16, step_size=0.1, num_chains=4)
)
