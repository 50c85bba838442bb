"""One page about finished runs: which method is best, and which labels are wrong."""
