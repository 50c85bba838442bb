#!/usr/bin/env bash
# Downloads CIFAR-100 to ./cifar-100, where `python instanceGM.py` looks for it; checked, resumable, nothing if it is there.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mkdir -p cifar-100
PYTHONPATH=$root python -m shared data cifar100 --path ./cifar-100
