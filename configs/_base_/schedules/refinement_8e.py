# Training of the refinement head alone, on a frozen detector.
max_epochs = 8

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=0.002, betas=(0.95, 0.99), weight_decay=0.01),
    clip_grad=dict(max_norm=10, norm_type=2),
)
param_scheduler = [
    dict(
        type="OneCycleLR",
        eta_max=0.002,
        total_steps=max_epochs,
        pct_start=0.4,
        div_factor=10,
        final_div_factor=1000,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict()
test_cfg = dict()
