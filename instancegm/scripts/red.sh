#!/usr/bin/env bash
# InstanceGM on Red Mini-ImageNet: RATE=0.2 (share of web images) SEED=123 NOISE_FILE= ARGS="--colour blue"
source "$(dirname "$0")/common.sh"
"$PYTHON" instancegm/instanceGM_redMini.py --r "${RATE:-0.2}" --seed "$SEED" --resume ${NOISE_FILE:+--noise_file "$NOISE_FILE"} \
  --output_dir "$(run_folder instancegm-red 0.2)" "${args[@]}"
