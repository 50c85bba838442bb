#!/usr/bin/env bash
# Both stages on Pascal VOC 2012: RATE=0.2 SEED=123 KIND=symmetric or asymmetric, GPUS=1
exec "$(dirname "$0")/two_stages.sh" voc instances_train2012 "$@"
