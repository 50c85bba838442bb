"""The frozen encoders f_p: networks, weights, features of whole datasets, SimCLR pre-training."""
