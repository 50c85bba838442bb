#!/usr/bin/env bash
# Images/s and seconds per epoch, against the same loop in plain float32: ARGS="--steps 9"
source "$(dirname "$0")/common.sh"
"$PYTHON" -m tests.bench.re_sln "${args[@]}"
