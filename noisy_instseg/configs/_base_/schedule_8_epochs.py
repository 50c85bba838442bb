# The published Cityscapes schedule: 8 epochs of 8 passes, SGD, learning rate 0.01 for batches of 8
# (8 GPUs x 1 image). `end=8` stands in the first stage (4 epochs) too. The checkpoint hands the
# scheduler's state to the second stage, and an `end` filled in from four epochs would end the
# schedule there: the decay at epoch 7 would never come.
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=8, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", by_epoch=True, begin=0, end=8, milestones=[7], gamma=0.1),
]
optim_wrapper = dict(
    type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=0.0001)
)
auto_scale_lr = dict(enable=False, base_batch_size=8)
