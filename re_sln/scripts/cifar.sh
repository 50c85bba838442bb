#!/usr/bin/env bash
# One method on CIFAR: DATASET=cifar10 METHOD=sln_mo_lc NOISE=sym RATE=0.4 SEED=123 ARGS="--n_epochs 100"
source "$(dirname "$0")/common.sh"
dataset=${DATASET:-cifar10} method=${METHOD:-sln_mo_lc} noise=${NOISE:-sym}
if [[ -n $NOISE_FILE ]]; then
  run=$(run_folder "re_sln-$dataset-$method" 0.4)
  flags=(--noise_file "$NOISE_FILE" ${RATE:+--p "$RATE"})
else
  run=$(run_folder "re_sln-$dataset-$method-$noise" 0.4)
  flags=(--noise_mode "$noise" --p "${RATE:-0.4}")
  [[ $noise != openset ]] || flags+=(--custom_noise)
fi
"$PYTHON" re_sln/train_cifar.py --seed "$SEED" --resume --dataset_name "$dataset" "${flags[@]}" \
  --method "$method" --output_dir "$run" "${args[@]}"
