"""What looks at finished runs: reading them, tables, curves, pictures of samples."""
