# Stage 1 on Cityscapes: cross entropy for the first 4 of 8 epochs. Stage 2 resumes from
# epoch_4.pth.
_base_ = "../_base_/cityscapes.py"
train_cfg = dict(max_epochs=4)
