# The detector of the demonstration (tools/demo.py): second_simulated_cpu.py on a schedule of
# a few minutes. Far from what longer training reaches; it is there to be refined.
_base_ = ["./second_simulated_cpu.py"]

max_epochs = 4
train_cfg = dict(max_epochs=max_epochs, val_begin=max_epochs + 1)  # evaluated once, at the end
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
