# Divergence from a Gaussian around the label, half as wide as the noise (M-22).
refinement_head = dict(
    loss=dict(_delete_=True, type="KLDISLoss", target_std=0.5, num_noise_samples=64)
)
