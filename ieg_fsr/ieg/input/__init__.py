"""From the name of a dataset to batches of images and labels."""
