"""Many trainings at once: the search for sigma, the grid of the paper, with or without Ray."""
