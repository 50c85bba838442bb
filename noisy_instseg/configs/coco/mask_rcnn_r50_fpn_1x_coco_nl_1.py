# Stage 1 on COCO: cross entropy for the first 6 of 12 epochs. Stage 2 resumes from epoch_6.pth.
_base_ = "../_base_/coco.py"
train_cfg = dict(max_epochs=6)
