"""What looks at finished runs: comparison and pictures."""
