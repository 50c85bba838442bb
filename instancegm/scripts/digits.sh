#!/usr/bin/env bash
# Cross-entropy and InstanceGM on the same noisy digits: RATE=0.4 SEED=123 NOISE_FILE= ARGS=
source "$(dirname "$0")/common.sh"
run=$(run_folder instancegm-digits 0.4)
labels=${NOISE_FILE:-$run/noise.npz}
baseline_args=() # plain cross-entropy has no co-divide phase, to which these belong
for arg in "${args[@]}"; do
  [[ $arg == --no-vae || $arg == --guess_eval ]] || baseline_args+=("$arg")
done
train=("$PYTHON" instancegm/instanceGM.py --dataset digits --seed "$SEED" --resume --noise_file "$labels")

[[ -n $NOISE_FILE ]] ||
  "$PYTHON" -m shared noise make --dataset digits --kind pdn --rate "${RATE:-0.4}" --out "$labels"
"${train[@]}" --mode ce --output_dir "$run/ce" "${baseline_args[@]}"
"${train[@]}" --output_dir "$run/instancegm" "${args[@]}"
"$PYTHON" -m instancegm.compare "$run/ce" "$run/instancegm" --plot "$run/comparison.png"
