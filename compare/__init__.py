"""Which method is best on my noise? Every method of this repository on the same noisy labels."""
