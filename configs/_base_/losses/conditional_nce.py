# NCE with noise around a noisy box (M-33).
refinement_head = dict(loss=dict(_delete_=True, type="ConditionalNCELoss", num_noise_samples=64))
