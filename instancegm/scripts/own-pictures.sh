#!/usr/bin/env bash
# Digits as picture files in folders of classes, 40 % of them in the wrong one: cross-entropy and InstanceGM by the recipe of
# Animal-10N at 64 pixels, with a narrow network and a schedule for few pictures: RATE=0.4 SEED=123 NOISE_FILE= ARGS=
source "$(dirname "$0")/common.sh"
run=$(run_folder instancegm-own-pictures 0.4)
labels=${NOISE_FILE:-$run/noise.npz}
baseline_args=() # plain cross-entropy has no co-divide phase, to which these belong
for arg in "${args[@]}"; do
  [[ $arg == --no-vae || $arg == --guess_eval ]] || baseline_args+=("$arg")
done
train=("$PYTHON" instancegm/instanceGM_animal10N.py --dataset folder --data_path "$run/pictures" --seed "$SEED" --resume
  --width 8 --no-flip --lr 0.02 --num_epochs 16 --warm_up 8 --lr_drop 12)

[[ -n $NOISE_FILE ]] ||
  "$PYTHON" -m shared noise make --dataset digits --kind symmetric --exclude_true_class --rate "${RATE:-0.4}" --out "$labels"
"$PYTHON" instancegm/scripts/write_pictures.py "$labels" "$run/pictures"
"${train[@]}" --mode ce --output_dir "$run/ce" "${baseline_args[@]}"
"${train[@]}" --output_dir "$run/instancegm" "${args[@]}"
"$PYTHON" -m instancegm.compare "$run/ce" "$run/instancegm" --plot "$run/comparison.png"
