# Cross entropy for the whole schedule on any set in COCO's format: the baseline CE.
_base_ = "../_base_/coco_format.py"
