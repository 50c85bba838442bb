#!/usr/bin/env bash
# LRA-diffusion on CIFAR-10 with PMD noise: RATE=0.35 ENCODER=SimCLR NOISE_TYPE=cifar10-1-0.35_U_0.3
source "$(dirname "$0")/common.sh"
NOISE_TYPE=${NOISE_TYPE:-} ENCODER=${ENCODER:-SimCLR}
noise=(--noise_type "${NOISE_TYPE:-cifar10-1-$(LC_ALL=C printf %.2f "${RATE:-0.35}")}")
[[ -z $NOISE_FILE ]] || noise=(--dataset cifar10 --noise_file "$NOISE_FILE" --cut_labels)
name=lra_diffusion-cifar10-$ENCODER${NOISE_TYPE:+-$NOISE_TYPE}
"$PYTHON" lra_diffusion/train_CIFAR.py --seed "$SEED" --resume "${noise[@]}" \
  --fp_encoder "$ENCODER" --output_dir "$(run_folder "$name" 0.35)" "${args[@]}"
