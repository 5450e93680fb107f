# NCE with a perturbed positive (M-21); beta multiplies the standard deviations.
refinement_head = dict(loss=dict(_delete_=True, type="NCEPlusLoss", beta=0.1, num_noise_samples=64))
