#!/usr/bin/env bash
# Supervised, L2R, IEG and FSR on the same noisy digits, then a table and a plot: RATE=0.6 SEED=123 NOISE_FILE= ARGS=
source "$(dirname "$0")/common.sh"
run=$(run_folder ieg_fsr-digits 0.6)
labels=${NOISE_FILE:-$run/noise.npz}
[[ -n $NOISE_FILE ]] || "$PYTHON" -m shared noise make --dataset digits --kind ieg_uniform --probe_ratio 0 \
  --rate "${RATE:-0.6}" --seed "$SEED" --out "$labels"
for method in supervised l2r ieg fsr; do
  trusted=0 # share of the images that L2R and IEG hold out with clean labels
  [[ $method != l2r && $method != ieg ]] || trusted=0.07
  "$PYTHON" ieg_fsr/ieg/main.py --seed="$SEED" --method=$method --dataset=file --noise_file="$labels" \
    --network_name=wrn10-1 --max_iteration=400 --lr_schedule=cosine_one --eval_freq=20 --meta_start_epoch=5 \
    --queue_capacity=200 --queue_bs=100 --probe_dataset_hold_ratio=$trusted --output_dir="$run/$method" "${args[@]}"
done
"$PYTHON" ieg_fsr/ieg/compare.py "$run"/{supervised,l2r,ieg,fsr} --plot "$run/comparison.png"
