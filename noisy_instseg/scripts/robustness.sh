#!/usr/bin/env bash
# Mask AP of cross-entropy and the two stages over four noise rates of shapes (half an hour): SEED=123 KIND=symmetric
# RATE="0 0.2": other rates. ARGS are flags of tools/train.py.
source "$(dirname "$0")/common.sh"
source noisy_instseg/scripts/noise.sh # common.sh went to the root
if [[ -n $NOISE_FILE ]]; then
  echo "error: NOISE_FILE: robustness.sh makes the noise of each rate itself; leave it out, or train on it with shapes.sh" >&2
  exit 2
fi
data=$DATA_ROOT/shapes
[[ -d $data/annotations ]] || "$PYTHON" -m shared data shapes
out=runs/noisy_instseg-robustness$(kind_in_name)${RATE:+-$(slug "$RATE")}-seed$SEED${ARGS:+-$(slug "$ARGS")}
# RATE unquoted: it may be several
"$PYTHON" noisy_instseg/tools/robustness.py --dataset-config noisy_instseg/configs/shapes/mask_rcnn_tiny_shapes \
  --ann "$data/annotations/instances_train.json" --kind "$KIND" ${RATE:+--rates $RATE} --seeds "$SEED" --out "$out" \
  -- --data_root "$data" "${args[@]}"
