#!/usr/bin/env bash
# IEG on CIFAR-100 with 10 trusted images per class: METHOD=ieg, l2r or supervised; RATE=0.4 SEED=123 NOISE_FILE= ARGS=
source "$(dirname "$0")/common.sh"
METHOD=${METHOD:-ieg}
[[ $METHOD =~ ^(ieg|l2r|supervised)$ ]] || {
  echo "METHOD=$METHOD: choose ieg, l2r or supervised; for fsr there is fsr-cifar100" >&2
  exit 2
}
data=(--dataset="cifar100_uniform_${RATE:-0.4}")
[[ -z $NOISE_FILE ]] || data=(--dataset=file_cifar100 --noise_file="$NOISE_FILE")
"$PYTHON" ieg_fsr/ieg/main.py --seed="$SEED" --method="$METHOD" "${data[@]}" \
  --output_dir="$(run_folder "$METHOD-cifar100" 0.4)" "${args[@]}"
