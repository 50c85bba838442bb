#!/usr/bin/env bash
# A first run of IEG on CIFAR-100 with 40 % uniform noise; from the folder ieg_fsr, more flags may follow.
set -euo pipefail

python -m ieg.main --dataset=cifar100_uniform_0.4 --network_name=resnet29 --method=ieg "$@"
