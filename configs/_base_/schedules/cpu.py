# One cycle of AdamW for small batches; the schedule ends with train_cfg.max_epochs.
optim_wrapper = dict(
    type="OptimWrapper",
    # betas and weight decay of the stock SECOND schedule
    optimizer=dict(type="AdamW", lr=0.003, betas=(0.95, 0.99), weight_decay=0.01),
    clip_grad=dict(max_norm=10, norm_type=2),
)
param_scheduler = [
    dict(
        type="OneCycleLR",
        eta_max=0.003,
        pct_start=0.4,
        div_factor=10,
        final_div_factor=1000,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]
train_cfg = dict(by_epoch=True, max_epochs=20, val_interval=5)
val_cfg = dict()
test_cfg = dict()
