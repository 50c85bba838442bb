"""What every run needs: configuration, data and labels, device, checkpoints, report."""
