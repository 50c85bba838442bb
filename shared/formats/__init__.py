"""Noise files: ours (`noise_file`), everybody else's (`external`), read without executing them."""
