# The plugin in any config of the host: its classes, the repairs, resumable seeds.
custom_imports = dict(imports=["ebm3d.register"], allow_failed_imports=False)
custom_hooks = [
    dict(type="EpochSeedHook"),
    dict(type="FreezeDetectorHook"),
    dict(type="ChannelsLastHook"),
    dict(type="PlainCheckpointHook"),
]
