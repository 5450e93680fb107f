# The energy of the 2020 paper, as published: docs/method.md.
refinement_head = dict(
    type="EBMRefinementHead",
    pooling=[dict(type="BEVGridPool", grid=(4, 7), projection=None, center_offset=0.0)],
    network=dict(type="Paper2020EnergyNetwork", hidden_channels=1024, branch_channels=16),
    noise=dict(
        type="BoxNoise",
        # released values: 0.0625, 0.125, 0.25 m for x, y; half of it for z and sizes; a quarter
        # for the yaw
        stds=[0.125, 0.125, 0.0625, 0.0625, 0.0625, 0.0625, 0.03125],
        multipliers=(0.5, 1.0, 2.0),
        axes="world",
        sizes="metric",
        shared_in_scene=True,
        min_size=0.05,
    ),
    loss=dict(type="NCELoss", num_noise_samples=128),
    refiner=dict(type="GradientAscent", num_steps=10, step_size=2e-4, step_decay=0.5),
    max_refined=100,
)
