"""IEG, FSR, L2R and supervised training on noisy labels; `python -m ieg.main` starts it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[2]))  # the repository, where `shared` is
