# The tables of ebm.py by class, for the stock order: Pedestrian, Cyclist, Car. Those of pedestrians
# and cyclists are scaled to their sizes by judgment, not fitted: use tools/fit_noise.py.
_base_ = ["./ebm.py"]

table_classes = ["Pedestrian", "Cyclist", "Car"]
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
