#!/usr/bin/env bash
# Cross-entropy, k-NN vote and LRA-diffusion on 10,000 images of CIFAR-10 with PMD noise, for two cores: RATE=0.35 SEED=123
source "$(dirname "$0")/common.sh"
run=$(run_folder lra_diffusion-cifar10-small 0.35)
noise=(--noise_type "cifar10-1-$(LC_ALL=C printf %.2f "${RATE:-0.35}")")
[[ -z $NOISE_FILE ]] || noise=(--dataset cifar10 --noise_file "$NOISE_FILE" --cut_labels)
flags=(--seed "$SEED" --resume "${noise[@]}" --limit_train 10000 --diff_encoder resnet18 --width 32 \
  --batch_size 100 --nepoch 25)
"$PYTHON" lra_diffusion/train_CE.py "${flags[@]}" --output_dir "$run/ce"
"$PYTHON" lra_diffusion/train_CIFAR.py "${flags[@]}" --fp_encoder efficientnet_lite0 --fp_queries cached \
  --ema_decay 0.99 --output_dir "$run/lra" "${args[@]}"
"$PYTHON" lra_diffusion/compare.py "$run/ce" "$run/lra" --plot "$run/comparison.png"
"$PYTHON" lra_diffusion/plot.py "$run/lra" --out "$run"
