# Cross entropy for the whole schedule on shapes: the baseline CE.
_base_ = "../_base_/shapes.py"
