"""What looks at finished runs."""
