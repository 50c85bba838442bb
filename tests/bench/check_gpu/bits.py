"""Hashes of what runs left, in the project's environment; one JSON object a folder.

.venv/re_sln/bin/python -m tests.bench.check_gpu.bits re_sln runs/whole runs/again
"""

import json
import sys
from pathlib import Path

from tests.proof import digest

if __name__ == "__main__":
    name, *folders = sys.argv[1:]
    for folder in folders:
        print(json.dumps(digest.of(name, Path(folder))))
