#!/usr/bin/env bash
# Mask AP of cross-entropy and the two stages over four noise rates of shapes (half an hour): SEED=123
# ARGS are flags of tools/train.py.
source "$(dirname "$0")/common.sh"
data=$DATA_ROOT/shapes
"$PYTHON" noisy_instseg/tools/robustness.py --dataset-config noisy_instseg/configs/shapes/mask_rcnn_tiny_shapes \
  --ann "$data/annotations/instances_train.json" --seeds "$SEED" \
  --out "runs/noisy_instseg-robustness-seed$SEED${ARGS:+-$(slug "$ARGS")}" -- --data_root "$data" "${args[@]}"
