#!/usr/bin/env bash
# LRA-diffusion on mini-WebVision with CLIP features: SEED=123
source "$(dirname "$0")/common.sh"
[[ -z $RATE$NOISE_FILE ]] || {
  echo "these labels are noisy by themselves: leave out RATE and NOISE_FILE" >&2
  exit 2
}
"$PYTHON" lra_diffusion/train_WebVision.py --seed "$SEED" --resume \
  --output_dir "$(run_folder lra_diffusion-webvision '')" "${args[@]}"
