"""The paper: losses and label rules, the mixture, the networks, the training loop."""
