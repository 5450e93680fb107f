# Training of a refinement head on a frozen detector, in place of the detector's schedule.
find_unused_parameters = True  # those of the frozen detector, in data-parallel training
refinement_schedule = dict(
    optim_wrapper=dict(
        type="OptimWrapper",
        optimizer=dict(type="AdamW", lr=0.002, betas=(0.95, 0.99), weight_decay=0.01),
        clip_grad=dict(max_norm=10, norm_type=2),
    ),
    param_scheduler=[
        dict(
            type="OneCycleLR",
            eta_max=0.002,
            pct_start=0.4,
            div_factor=10,
            final_div_factor=1000,
            by_epoch=True,
            convert_to_iter_based=True,
        )
    ],
    train_cfg=dict(by_epoch=True, max_epochs=8, val_interval=8),
)
