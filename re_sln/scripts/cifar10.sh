#!/usr/bin/env bash
# One method on CIFAR-10: METHOD=sln_mo_lc NOISE=sym RATE=0.4 SEED=123 ARGS="--n_epochs 100"
DATASET=cifar10 exec "$(dirname "$0")/cifar.sh" "$@"
