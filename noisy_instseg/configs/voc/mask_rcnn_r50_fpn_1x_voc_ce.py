# Cross entropy for the whole schedule on VOC: the baseline CE.
_base_ = "../_base_/voc.py"
