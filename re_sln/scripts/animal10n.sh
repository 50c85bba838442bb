#!/usr/bin/env bash
# One method on Animal-10N, whose labels are noisy by themselves: METHOD=sln_mo_lc SEED=123
source "$(dirname "$0")/common.sh"
method=${METHOD:-sln_mo_lc}
RATE='' NOISE_FILE=''  # no noise is added
"$PYTHON" re_sln/train_real.py --seed "$SEED" --resume --dataset_name animal-10n --method "$method" \
  --output_dir "$(run_folder "re_sln-animal10n-$method" '')" "${args[@]}"
