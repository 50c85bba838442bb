#!/usr/bin/env bash
# What `make compare` and `make compare-commands` do: every method on the same noisy labels.
#   DATASET  digits (the default), cifar10, cifar100 or folder  KIND, RATE  noise to make (pdn, 0.4; of folder none)
#   DATA     folder: the pictures                               NOISE_FILE  noisy labels to train on instead
#   LIMIT    train, and test, on so many images                 SEEDS       of the runs (SEED, else 1)
#   METHODS  some of them (all)                                 FOLDER      of the comparison (runs/compare-...)
#   RAY      auto or host:port: on Ray, side by side            ARGS        further flags of every script
#   LABELS   folder: a CSV filename,label of the pictures
set -euo pipefail
command=run
[[ ${1:-compare} == compare ]] || command=commands
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PYTHON=${PYTHON:-.venv/compare/bin/python}
DATASET=${DATASET:-digits} SEEDS=${SEEDS:-${SEED:-1}} METHODS=${METHODS:-}
read -ra methods <<<"$METHODS"
read -ra seeds <<<"$SEEDS"
selected=(${METHODS:+--methods "${methods[@]}"})
projects=$("$PYTHON" -m compare projects "${selected[@]}")
for project in $projects; do
  make --no-print-directory "setup-$project" >&2
done
data=${DATA:-}
[[ $DATASET != cifar* ]] || data=${DATA:-${DATA_ROOT:-data}}
[[ $command == commands || -z ${RAY:-} ]] || ray=(--ray "$RAY")
exec "$PYTHON" -m compare $command --dataset "$DATASET" ${data:+--data "$data"} \
  ${LABELS:+--labels "$LABELS"} ${KIND:+--kind "$KIND"} \
  ${RATE:+--rate "$RATE"} ${NOISE_FILE:+--noise_file "$NOISE_FILE"} ${LIMIT:+--limit "$LIMIT"} \
  --seeds "${seeds[@]}" "${selected[@]}" ${FOLDER:+--folder "$FOLDER"} ${ray:+"${ray[@]}"} ${ARGS:+--args="$ARGS"}
