"""Many trainings at once: the search for sigma, the paper's grid, and Ray or none to run them."""
