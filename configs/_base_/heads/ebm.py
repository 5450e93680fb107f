# Energy-based refinement (EBM): NCE training, quasi-Newton ascent. For cars; a config hands on the
# channels of the map and the range.
# noise.stds: standard deviations of the errors of second_simulated_cpu.py on frames it was not
# trained on (tools/fit_noise.py; fit your detector's the same way): along, across, up (m); length,
# width, height (log ratio; meters in step_scale); yaw (rad).
table_classes = ["Car"]  # of the rows of mean_sizes, stds and step_scale
refinement_head = dict(
    type="EBMRefinementHead",
    pooling=[
        dict(type="BEVGridPool", grid=(4, 7), projection=32),
        dict(type="PointBoxPool", channels=(32, 64), max_box_shift=1.5, max_points=256),
    ],
    network=dict(type="EnergyNetwork", mean_sizes=[[3.9, 1.6, 1.56]]),  # m, the anchor's
    noise=dict(
        type="BoxNoise",
        stds=[[0.25, 0.10, 0.12, 0.10, 0.065, 0.08, 0.08]],
        multipliers=(0.5, 1.0, 2.0),
    ),
    loss=dict(type="NCELoss", num_noise_samples=64),
    refiner=dict(
        type="QuasiNewtonAscent",
        num_steps=10,
        step_size=0.1,
        step_scale=[[0.25, 0.10, 0.12, 0.40, 0.10, 0.12, 0.08]],
        axes="box",
        max_step=0.5,
        max_displacement=3.0,
    ),
    max_refined=100,
)
