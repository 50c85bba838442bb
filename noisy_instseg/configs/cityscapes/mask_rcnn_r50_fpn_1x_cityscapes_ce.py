# Cross entropy for the whole schedule on Cityscapes: the baseline CE.
_base_ = "../_base_/cityscapes.py"
