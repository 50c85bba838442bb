#!/usr/bin/env bash
# Seconds for 10,000 and 50,000 images, training steps/s, retrieval: ARGS="--json bench.json"
source "$(dirname "$0")/common.sh"
"$PYTHON" -m tests.bench.lra_diffusion "${args[@]}"
