#!/usr/bin/env bash
# Downloads CIFAR-10 to ./cifar-10, where `python instanceGM.py` looks for it; checked, resumable, nothing if it is there.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mkdir -p cifar-10
PYTHONPATH=$root python -m shared data cifar10 --path ./cifar-10
