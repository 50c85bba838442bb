"""The paper: label retrieval, label diffusion, networks and the training loop."""
