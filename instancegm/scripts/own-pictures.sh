#!/usr/bin/env bash
# Digits as picture files of 64 pixels in folders of classes, 40 % of them in the wrong folder: cross-entropy and InstanceGM
# by the recipe of Animal-10N, with a narrow network: RATE=0.4 SEED=123 ARGS=
source "$(dirname "$0")/common.sh"
rate=${RATE:-0.4} run=$(run_folder instancegm-own-pictures 0.4)
pictures=$run/pictures
[[ -d $pictures ]] || {
  "$PYTHON" -m shared noise make --dataset digits --kind symmetric --exclude_true_class --rate "$rate" --out "$run/noise.npz"
  "$PYTHON" - "$run/noise.npz" "$pictures" <<'PYTHON'
import sys
from pathlib import Path

from PIL import Image

from shared import datasets
from shared.formats.noise_file import read

digits, noise, root = datasets.load("digits"), read(Path(sys.argv[1])), Path(f"{sys.argv[2]}.part")
for split, images, labels in (
    ("train", digits.train_images, noise.noisy_labels),
    ("test", digits.test_images, digits.test_labels),
):
    for number, (image, label) in enumerate(zip(images, labels)):
        path = root / split / str(label) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).resize((64, 64), Image.Resampling.NEAREST).save(path)
root.rename(sys.argv[2])
PYTHON
}
train=("$PYTHON" instancegm/instanceGM_animal10N.py --dataset folder --data_path "$pictures" --seed "$SEED" --resume
  --width 8 --no-flip --num_epochs 24 --warm_up 10 --lr_drop 18)
"${train[@]}" --mode ce --output_dir "$run/ce" "${args[@]}"
"${train[@]}" --output_dir "$run/instancegm" "${args[@]}"
"$PYTHON" -m instancegm.compare "$run/ce" "$run/instancegm" --plot "$run/comparison.png"
