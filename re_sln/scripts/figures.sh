#!/usr/bin/env bash
# Tables and pictures of the runs of the other recipes, in runs/re_sln-figures and in the run folders
source "$(dirname "$0")/common.sh"
"$PYTHON" re_sln/results.py --runs runs --out runs/re_sln-figures
"$PYTHON" re_sln/viz.py digits --noise_mode sym --p 0.4 --seed "$SEED"
shopt -s nullglob
models=(runs/re_sln-*/model.pth runs/re_sln-*/*/model.pth)
[[ ${#models[@]} -gt 0 ]] || exit 0
status=0
for type in pred_probs sample_dissect tsne; do
  "$PYTHON" re_sln/plot.py --exp_id "${models[@]%/model.pth}" --plot_type "$type" || status=1
done
exit $status
