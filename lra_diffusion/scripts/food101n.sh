#!/usr/bin/env bash
# LRA-diffusion on Food-101N with CLIP features, tested on Food-101: SEED=123
source "$(dirname "$0")/common.sh"
RATE='' NOISE_FILE=''  # these labels are noisy by themselves
"$PYTHON" lra_diffusion/train_Food101N.py --seed "$SEED" --resume \
  --output_dir "$(run_folder lra_diffusion-food101n '')" "${args[@]}"
