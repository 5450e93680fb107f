# Simulated frames in the KITTI layout: kitti_cpu.py with another folder.
_base_ = "./kitti_cpu.py"
data_root = "data/simulated/"
refinement_epochs = 5  # twice the frames of kitti_cpu.py

db_sampler = _base_.db_sampler
db_sampler.update(data_root=data_root, info_path=data_root + "kitti_dbinfos_train.pkl")
train_pipeline = _base_.train_pipeline
train_pipeline[2].update(db_sampler=db_sampler)

train_dataloader = dict(dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + "kitti_infos_val.pkl")
test_evaluator = val_evaluator
