#!/usr/bin/env bash
# InstanceGM on CIFAR-100, part-dependent noise: RATE=0.5 SEED=123 NOISE_FILE= ARGS="--id x"
source "$(dirname "$0")/common.sh"
noise=(--r "${RATE:-0.5}")
[[ -z $NOISE_FILE ]] || noise=(--noise_file "$NOISE_FILE" ${RATE:+--r "$RATE"})
"$PYTHON" instancegm/instanceGM.py --dataset cifar100 --seed "$SEED" --resume "${noise[@]}" \
  --output_dir "$(run_folder instancegm-cifar100 0.5)" "${args[@]}"
