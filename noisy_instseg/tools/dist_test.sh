#!/usr/bin/env bash
# Evaluate on several GPUs; the published command line:
#
#   tools/dist_test.sh CONFIG CHECKPOINT GPU_NUM [flags of test.py]
#
# The environment and machines without CUDA are as for dist_train.sh.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: dist_test.sh CONFIG CHECKPOINT GPU_NUM [flags of test.py]" >&2
    exit 2
fi
config=$1
checkpoint=$2
processes=$3
shift 3
source "$(dirname -- "${BASH_SOURCE[0]}")/launch.sh"
again="run the same command again"
launch "$processes" "$tools/test.py" "$config" "$checkpoint" "$@"
