# Cross entropy for the whole schedule on COCO: the baseline CE.
_base_ = "../_base_/coco.py"
