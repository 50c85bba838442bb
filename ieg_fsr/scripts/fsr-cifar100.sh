#!/usr/bin/env bash
# FSR on CIFAR-100, no trusted images: RATE=0.4 SEED=123 NOISE_FILE= ARGS=
source "$(dirname "$0")/common.sh"
data=(--dataset="cifar100_uniform_${RATE:-0.4}")
[[ -z $NOISE_FILE ]] || data=(--dataset=file_cifar100 --noise_file="$NOISE_FILE")
"$PYTHON" ieg_fsr/ieg/main.py --seed="$SEED" --method=fsr "${data[@]}" --max_iteration=63500 --cos_t_mul=2 \
  --output_dir="$(run_folder fsr-cifar100 0.4)" "${args[@]}"
