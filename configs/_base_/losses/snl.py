# Self-normalized likelihood: log Z is learned beside f (M-25).
refinement_head = dict(loss=dict(_delete_=True, type="SNLLoss", num_noise_samples=64))
