#!/usr/bin/env bash
# InstanceGM on Clothing1M, whose labels are noisy by themselves: SEED=123 ARGS="--num_workers 16"
source "$(dirname "$0")/common.sh"
"$PYTHON" instancegm/instanceGM_clothing1M.py --seed "$SEED" --resume ${NOISE_FILE:+--noise_file "$NOISE_FILE"} \
  --output_dir "$(run_folder instancegm-clothing1m "")" "${args[@]}"
