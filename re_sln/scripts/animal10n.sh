#!/usr/bin/env bash
# One method on Animal-10N, whose labels are noisy by themselves: METHOD=sln_mo_lc SEED=123 NOISE_FILE=
source "$(dirname "$0")/common.sh"
method=${METHOD:-sln_mo_lc}
RATE=''  # no noise is added
"$PYTHON" re_sln/train_real.py --seed "$SEED" --resume --dataset_name animal-10n --method "$method" \
  ${NOISE_FILE:+--noise_file "$NOISE_FILE"} \
  --output_dir "$(run_folder "re_sln-animal10n-$method" '')" "${args[@]}"
