#!/usr/bin/env bash
# InstanceGM on Animal-10N, whose labels are noisy by themselves: SEED=123 NOISE_FILE= ARGS="--mode ce"
source "$(dirname "$0")/common.sh"
"$PYTHON" instancegm/instanceGM_animal10N.py --seed "$SEED" --resume --saved True ${NOISE_FILE:+--noise_file "$NOISE_FILE"} \
  --output_dir "$(run_folder instancegm-animal10n "")" "${args[@]}"
