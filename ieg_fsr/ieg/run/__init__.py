"""What every run needs: settings, devices, checkpoints, logs."""
