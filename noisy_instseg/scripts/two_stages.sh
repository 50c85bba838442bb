#!/usr/bin/env bash
# Both stages of the paper on one of its datasets, Mask R-CNN R-50-FPN; cityscapes.sh, coco.sh and voc.sh call it:
#   two_stages.sh DATASET ANNOTATIONS [flags of train.py]
# RATE=0.2 SEED=123 KIND=symmetric or asymmetric, GPUS=1 processes (0: the CPU)
dataset=$1 annotations=$2
shift 2
source "$(dirname "$0")/common.sh"
source noisy_instseg/scripts/noise.sh # common.sh went to the root
data=$DATA_ROOT/$dataset config=noisy_instseg/configs/$dataset/mask_rcnn_r50_fpn_1x_$dataset
run=$(run_folder "noisy_instseg-$dataset$([[ -n $NOISE_FILE ]] || echo "-$KIND")" 0.2)
export PYTHON

"$PYTHON" noisy_instseg/tools/check_data.py "${config}_nl_1.py" --data_root "$data"
labels=$(noisy_labels "$dataset" "$data/annotations/$annotations.json" 0.2 "$run/train.json")
train=(--seed "$SEED" --noise_file "$labels" --data_root "$data" --resume)
noisy_instseg/tools/dist_train.sh "${config}_nl_1.py" "${GPUS:-1}" "${train[@]}" --work-dir "$run/nl_1" "${args[@]}"
noisy_instseg/tools/dist_train.sh "${config}_nl_2.py" "${GPUS:-1}" "${train[@]}" --work-dir "$run/nl_2" \
  --resume-from "$run/nl_1/latest.pth" "${args[@]}"
