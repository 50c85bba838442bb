"""The paper: losses, label rules, networks, images, and the training loop in train.py."""
