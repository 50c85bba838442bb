#!/usr/bin/env bash
# FSR on long-tailed CIFAR-10 with 20 % uniform label noise on top; from the folder ieg_fsr, more flags may follow.
set -euo pipefail
RATIO=0.02
NOISE=0.2

python -m ieg.main \
  --dataset="cifar10_imbal_${RATIO}_${NOISE}" --network_name=resnet32 --method=fsr \
  --ds_include_metadata=True --probe_dataset_hold_ratio=0 --batch_size=128 \
  --max_epoch=200 --lr_schedule=custom_step --decay_rate=0.01 --decay_epochs='160,180' \
  --label_smoothing=0.1 --meta_start_epoch=160 \
  --queue_capacity=2000 --queue_bs=200 --clip_meta_weight=True \
  "$@"
