#!/usr/bin/env bash
# Train on several GPUs; the published command line:
#
#   tools/dist_train.sh CONFIG GPU_NUM [flags of train.py]
#
# PORT (a free one; 29500 for several machines), MASTER_ADDR, NNODES and NODE_RANK are taken from the environment, PYTHON names the
# interpreter (python). GPU_NUM 0 is the CPU. Without CUDA, 1 is the CPU as well, and from 2 on so many processes run there, if it
# has as many cores (2 always run).
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: dist_train.sh CONFIG GPU_NUM [flags of train.py]" >&2
    exit 2
fi
config=$1
processes=$2
shift 2
source "$(dirname -- "${BASH_SOURCE[0]}")/launch.sh"
again="the same command with --resume continues after the last whole epoch"
launch "$processes" "$tools/train.py" "$config" "$@"
