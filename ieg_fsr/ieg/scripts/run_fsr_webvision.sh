#!/usr/bin/env bash
# FSR on mini-WebVision, evaluated on ImageNet too; published with 8 GPUs, 16 images on each. From the folder ieg_fsr.
set -euo pipefail

python -m ieg.main \
  --dataset=webvisionmini --network_name=resnet50 --method=fsr \
  --ds_include_metadata=True --probe_dataset_hold_ratio=0 --batch_size=16 --val_batch_size=50 \
  --max_iteration=123300 --eval_freq=10000 --use_imagenet_as_eval=True \
  --warmup_epochs=3 --cos_t_mul=2 --cos_m_mul=0.9 --l2_weight_decay=1e-4 \
  --meta_start_epoch=20 --queue_capacity=5000 --use_pseudo_loss='all_1_0.1_1' \
  "$@"
