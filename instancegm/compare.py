"""A table and a picture of several runs: python -m instancegm.compare RUN [RUN ...] --plot FILE."""

import sys
from pathlib import Path

# The repository, so that the script runs from any folder.
sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from instancegm.analysis.compare import main

if __name__ == "__main__":
    sys.exit(main())
