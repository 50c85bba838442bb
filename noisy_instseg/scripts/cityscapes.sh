#!/usr/bin/env bash
# Both stages on Cityscapes: RATE=0.2 SEED=123 KIND=symmetric or asymmetric, GPUS=1
exec "$(dirname "$0")/two_stages.sh" cityscapes instancesonly_filtered_gtFine_train "$@"
