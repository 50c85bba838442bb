"""What looks at finished runs: tables, curves, pages of predictions, the ranking of labels."""
