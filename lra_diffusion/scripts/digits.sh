#!/usr/bin/env bash
# Cross-entropy, k-NN vote and LRA-diffusion on the same PMD noise of digits: RATE=0.35 SEED=123
source "$(dirname "$0")/common.sh"
run=$(run_folder lra_diffusion-digits 0.35)
labels=${NOISE_FILE:-$run/noise.npz}
flags=(--seed "$SEED" --resume --dataset digits)
noisy=("${flags[@]}" --noise_file "$labels" --cut_labels)
if [[ -z $NOISE_FILE ]]; then
  "$PYTHON" lra_diffusion/make_pmd.py "${flags[@]}" --rate "${RATE:-0.35}" --out "$labels"
fi
"$PYTHON" lra_diffusion/train_SimCLR.py "${flags[@]}" --output_dir "$run/simclr"
"$PYTHON" lra_diffusion/train_CE.py "${noisy[@]}" --output_dir "$run/ce"
"$PYTHON" lra_diffusion/train_CIFAR.py "${noisy[@]}" --fp_weights "$run/simclr" \
  --cache_dir "$run/embeddings" --output_dir "$run/lra" "${args[@]}"
"$PYTHON" lra_diffusion/compare.py "$run/ce" "$run/lra" --plot "$run/comparison.png"
"$PYTHON" lra_diffusion/plot.py "$run/lra" --out "$run"
