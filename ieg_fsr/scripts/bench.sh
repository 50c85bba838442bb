#!/usr/bin/env bash
# Milliseconds a step of each method, against supervised and against double back-propagation: ARGS="--steps 20"
source "$(dirname "$0")/common.sh"
"$PYTHON" -m tests.bench.ieg_fsr "${args[@]}"
