"""Noise files: ours (`noise_file`), everybody else's (`external`), and readers that never execute
what is in a file.
"""
