#!/usr/bin/env bash
# FSR on long-tailed CIFAR-10, classes down to a fiftieth of the largest (RATIO = smallest / largest class).
# From the folder ieg_fsr; more flags may follow, such as --dataset=cifar100_imbal_0.02 or --dataset_dir=DIR.
set -euo pipefail
RATIO=0.02

python -m ieg.main \
  --dataset="cifar10_imbal_${RATIO}" --network_name=resnet32 --method=fsr \
  --ds_include_metadata=True --probe_dataset_hold_ratio=0 --batch_size=128 \
  --max_epoch=200 --lr_schedule=custom_step --decay_rate=0.01 --decay_epochs='160,180' \
  --label_smoothing=0.1 --use_mixup=False --meta_start_epoch=160 \
  --queue_capacity=3000 --queue_bs=800 --clip_meta_weight=False --use_pseudo_loss='' \
  "$@"
