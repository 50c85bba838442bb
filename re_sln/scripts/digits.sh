#!/usr/bin/env bash
# CE, SLN+MO (whose network is SLN) and SLN+MO+LC on the same noisy digits: RATE=0.4 SEED=123
source "$(dirname "$0")/common.sh"
run=$(run_folder re_sln-digits 0.4)
labels=${NOISE_FILE:-$run/noise.npz}
if [[ -z $NOISE_FILE ]]; then
  "$PYTHON" -m shared noise make --dataset digits --kind symmetric --exclude_true_class --independent \
    --rate "${RATE:-0.4}" --out "$labels"
fi
for method in ce sln_mo sln_mo_lc; do
  "$PYTHON" re_sln/train_cifar.py --seed "$SEED" --resume --dataset_name digits --noise_file "$labels" \
    --method "$method" --output_dir "$run/$method" "${args[@]}"
done
"$PYTHON" re_sln/results.py --runs "$run" --out "$run"
"$PYTHON" re_sln/plot.py --exp_id "$run"/{ce,sln_mo,sln_mo_lc} --plot_type curves --out "$run/curves.png"
