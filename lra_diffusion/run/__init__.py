"""What every run needs: configuration, data and labels, device, checkpoints, report."""

import sys

from shared.errors import say_interrupted

sys.excepthook = say_interrupted  # Ctrl-C while a script imports is one line
