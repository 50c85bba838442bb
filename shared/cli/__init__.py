"""The commands of `python -m shared`."""
