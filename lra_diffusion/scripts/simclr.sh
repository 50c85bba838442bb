#!/usr/bin/env bash
# The SimCLR encoder that cifar10.sh and cifar100.sh need, without the authors': DATASET=cifar10
source "$(dirname "$0")/common.sh"
"$PYTHON" lra_diffusion/train_SimCLR.py --seed "$SEED" --resume --dataset "${DATASET:-cifar10}" \
  "${args[@]}"
