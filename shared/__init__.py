"""Label noise and datasets for every project of this repository; no deep-learning framework."""
