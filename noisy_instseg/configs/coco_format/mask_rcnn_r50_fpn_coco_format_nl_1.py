# Stage 1 on any set in COCO's format: cross entropy for the first 4 of 8 epochs. Stage 2 resumes
# from epoch_4.pth.
_base_ = "../_base_/coco_format.py"
train_cfg = dict(max_epochs=4)
