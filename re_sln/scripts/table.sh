#!/usr/bin/env bash
# Every method on every noise of the paper, by Ray; resumable: ARGS="--seeds 1 2 3"
source "$(dirname "$0")/common.sh"
"$PYTHON" re_sln/table.py --output_dir "runs/re_sln-table${ARGS:+-$(slug "$ARGS")}" "${args[@]}"
