#!/usr/bin/env bash
# What `make noise` does: a noise file of DATASET (cifar10), KIND (pdn), RATE (0.5) and SEED (the kind's usual one); or, with
# ANN, noisy COCO annotations; or, with KIND=transition, by the matrix in MATRIX. NOISE_FILE is where it goes, ARGS are further
# flags of `python -m shared noise make`.
set -euo pipefail
cd "$(dirname "$0")/.."
DATASET=${DATASET:-cifar10} KIND=${KIND:-pdn} RATE=${RATE:-} ANN=${ANN:-} MATRIX=${MATRIX:-} ARGS=${ARGS:-}
case $KIND in ieg_* | long_tail) SEED=${SEED:-12345} ;; *) SEED=${SEED:-123} ;; esac
[[ $KIND == transition || $ARGS == *--factor* ]] || RATE=${RATE:-0.5}
amount=(${RATE:+--rate "$RATE"} ${MATRIX:+--matrix "$MATRIX"}) word=${MATRIX:+$(basename "${MATRIX%.*}")}
file=${NOISE_FILE:-runs/noise/${DATASET}_${KIND}_${word:-$RATE}_seed$SEED.${ANN:+json}}
[[ $file != *. ]] || file=${file}npz
eval "args=($ARGS)"
"${PYTHON:-.venv/shared/bin/python}" -m shared noise make ${ANN:+--format coco --ann "$ANN"} --dataset "$DATASET" \
  --kind "$KIND" "${amount[@]}" --seed "$SEED" --out "$file" "${args[@]}"
