_base_ = ["../../../configs/_base_/runtime.py", "../../../configs/_base_/schedules/cpu.py"]

custom_imports = dict(
    imports=["ebm3d.register", "tests.adapters.engine.toy"], allow_failed_imports=False
)
custom_hooks = [
    dict(type="EpochSeedHook"),
    dict(type="FreezeDetectorHook"),
    dict(type="ChannelsLastHook"),
    dict(type="KillHook", epoch=-1),  # never
    dict(type="PlainCheckpointHook"),
]
model = dict(type="ToyModel", dropout=0.2)
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=False,
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="default_collate"),
    dataset=dict(type="ToyData", augment=True),
)
train_cfg = dict(max_epochs=4)
param_scheduler = [
    dict(
        type="OneCycleLR",
        eta_max=0.03,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]
val_cfg = None
test_cfg = None
visualizer = dict(vis_backends=[dict(type="LocalVisBackend")])
