#!/usr/bin/env bash
# IEG on mini-WebVision (NOTES.md says how to get it), published with 8 GPUs: SEED=123 ARGS=
source "$(dirname "$0")/common.sh"
[[ -z $RATE$NOISE_FILE ]] || {
  echo "these labels are noisy by themselves: leave out RATE and NOISE_FILE" >&2
  exit 2
}
"$PYTHON" ieg_fsr/ieg/main.py --seed="$SEED" --method=ieg --dataset=webvisionmini --network_name=resnet50 \
  --ce_factor=4 --consistency_factor=8 --batch_size=8 --use_imagenet_as_eval=true --val_batch_size=50 \
  --eval_freq=10000 --max_iteration=1000000 \
  --output_dir="runs/ieg-webvision-seed$SEED${ARGS:+-$(slug "$ARGS")}" "${args[@]}"
