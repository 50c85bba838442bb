#!/usr/bin/env bash
# Both stages and plain cross-entropy on the same noisy shapes, with pictures: RATE=0.4 SEED=123 KIND=symmetric
source "$(dirname "$0")/common.sh"
source noisy_instseg/scripts/noise.sh # common.sh went to the root
data=$DATA_ROOT/shapes run=$(run_folder "noisy_instseg-shapes$(kind_in_name)" 0.4)
name=mask_rcnn_tiny_shapes config=noisy_instseg/configs/shapes/mask_rcnn_tiny_shapes
[[ -d $data/annotations ]] || "$PYTHON" -m shared data shapes
labels=$(noisy_labels coco_format "$data/annotations/instances_train.json" 0.4 "$run/train.json")
train=(--seed "$SEED" --noise_file "$labels" --data_root "$data")

"$PYTHON" noisy_instseg/tools/train_stages.py "${config}_nl_1.py" "${config}_nl_2.py" "${train[@]}" --work-dir "$run" "${args[@]}"
# until the last epoch of stage 1 cross-entropy is that very run
"$PYTHON" noisy_instseg/tools/train.py "${config}_ce.py" "${train[@]}" --work-dir "$run/${name}_ce" \
  --resume --resume-from "$run/${name}_nl_1/latest.pth" "${args[@]}"
"$PYTHON" noisy_instseg/tools/compare.py "$run/${name}_ce" "$run/${name}_nl_2" --plot "$run/comparison.png"
"$PYTHON" noisy_instseg/tools/pictures.py "${config}_nl_2.py" "$run/${name}_ce/latest.pth" "$run/${name}_nl_2/latest.pth" \
  --names 'cross-entropy' 'two stages' --data_root "$data" --out "$run/predictions.png"
"$PYTHON" noisy_instseg/tools/find_noisy.py "${config}_nl_2.py" "$run/${name}_nl_2/latest.pth" --noise_file "$labels" \
  --data_root "$data" --out "$run/${name}_nl_2/label_quality.csv" --plot "$run/ranking.png" \
  --corrected "$run/${name}_nl_2/corrected.json" --force
