#!/usr/bin/env bash
# IEG on CIFAR-10 with 10 trusted images per class: METHOD=ieg, l2r or supervised; RATE=0.4 SEED=123 NOISE_FILE= ARGS=
source "$(dirname "$0")/common.sh"
METHOD=${METHOD:-ieg}
[[ $METHOD =~ ^(ieg|l2r|supervised)$ ]] || {
  echo "METHOD=$METHOD: choose ieg, l2r or supervised; for fsr there is fsr-cifar100" >&2
  exit 2
}
data=(--dataset="cifar10_uniform_${RATE:-0.4}")
[[ -z $NOISE_FILE ]] || data=(--dataset=file_cifar10 --noise_file="$NOISE_FILE")
"$PYTHON" ieg_fsr/ieg/main.py --seed="$SEED" --method="$METHOD" "${data[@]}" --probe_dataset_hold_ratio=0.002 \
  --output_dir="$(run_folder "$METHOD-cifar10" 0.4)" "${args[@]}"
