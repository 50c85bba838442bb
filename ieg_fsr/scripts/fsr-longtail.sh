#!/usr/bin/env bash
# FSR on long-tailed CIFAR-10 by the published script, classes down to a fiftieth of the largest: SEED=123 ARGS=
source "$(dirname "$0")/common.sh"
[[ -z $RATE$NOISE_FILE ]] || {
  echo "the classes are uneven and the labels clean: leave out RATE and NOISE_FILE;" \
    "for a rate of 0.2 on top give ARGS='--dataset=cifar10_imbal_0.02_0.2'" >&2
  exit 2
}
run=$PWD/runs/fsr-longtail-seed$SEED${ARGS:+-$(slug "$ARGS")}
data=$DATA_ROOT
[[ $data == /* ]] || data=$PWD/$data
PATH="$(cd "$(dirname "$(command -v "$PYTHON")")" && pwd):$PATH" # the script starts `python`
cd ieg_fsr
ieg/scripts/run_fsr_cifar_longtail.sh --seed="$SEED" --dataset_dir="$data" --output_dir="$run" "${args[@]}"
