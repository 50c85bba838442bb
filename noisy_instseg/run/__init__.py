"""What every run needs: flags, the final config, checks of the data, seeds, checkpoints."""
