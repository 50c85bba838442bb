"""Noisy class labels for instance segmentation (Yang et al., ECCV 2020), on mmdetection 3."""
