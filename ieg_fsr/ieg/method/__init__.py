"""The papers: losses, label rules, meta gradients, steps, the training loop. Read this."""
