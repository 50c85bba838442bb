#!/usr/bin/env bash
# Images/s, steps/s and memory of each phase, against plain float32: ARGS="--steps 3"
source "$(dirname "$0")/common.sh"
"$PYTHON" -m tests.bench.instancegm "${args[@]}"
