# EBM refinement on the frozen detector of second_demo.py, for tools/demo.py, which hands on its
# checkpoint (load_from) and the folder of the data (data_root).
_base_ = ["./ebm_second_simulated_cpu.py"]
detector_config = "second_demo.py"

max_epochs = 4
train_cfg = dict(max_epochs=max_epochs, val_begin=max_epochs + 1)  # evaluated once, at the end
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
