"""What every run needs: flags, the final config, checks of the data, seeds, checkpoints."""

import sys

from shared.errors import say_interrupted

sys.excepthook = say_interrupted  # Ctrl-C while a script imports is one line
