# The one cycle of cpu_20e.py in half the epochs.
_base_ = "./cpu_20e.py"
max_epochs = 10

param_scheduler = _base_.param_scheduler
param_scheduler[0].update(total_steps=max_epochs)
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
