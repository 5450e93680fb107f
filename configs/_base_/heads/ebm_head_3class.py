# The EBM refinement head for the stock order of classes: Pedestrian, Cyclist, Car. The row of cars
# is that of ebm_head.py; those of pedestrians and cyclists are scaled to their sizes by judgment,
# not fitted: fit them to your detector with tools/fit_noise.py.
_base_ = ["./ebm_head.py"]

refinement_head = dict(
    network=dict(mean_sizes=[[0.8, 0.6, 1.73], [1.76, 0.6, 1.73], [3.9, 1.6, 1.56]]),  # m, anchors
    noise=dict(
        stds=[
            [0.10, 0.10, 0.08, 0.12, 0.10, 0.06, 0.15],
            [0.14, 0.10, 0.08, 0.08, 0.12, 0.06, 0.10],
            [0.25, 0.10, 0.12, 0.10, 0.065, 0.08, 0.08],
        ]
    ),
    refiner=dict(
        step_scale=[
            [0.10, 0.10, 0.08, 0.10, 0.06, 0.10, 0.15],
            [0.14, 0.10, 0.08, 0.14, 0.07, 0.10, 0.10],
            [0.25, 0.10, 0.12, 0.40, 0.10, 0.12, 0.08],
        ]
    ),
)
