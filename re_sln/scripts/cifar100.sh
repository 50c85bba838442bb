#!/usr/bin/env bash
# One method on CIFAR-100: METHOD=sln_mo_lc NOISE=sym|asym|dependent RATE=0.4 SEED=123
DATASET=cifar100 exec "$(dirname "$0")/cifar.sh" "$@"
