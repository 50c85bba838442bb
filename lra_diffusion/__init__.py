"""LRA-diffusion (Chen et al., NeurIPS 2023): label-retrieval-augmented diffusion for noisy labels.

See README.md.
"""
