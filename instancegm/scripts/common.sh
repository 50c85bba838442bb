# Sourced by the recipes beside it; the same file in every project. What all recipes understand:
#   SEED  seed of the run (123)            DATA_ROOT  where datasets are (data)
#   RATE  noise rate (each recipe's own)   NOISE_FILE noisy labels to train on instead of RATE
#   ARGS  further flags of the script, as are the recipe's own arguments
#   PYTHON  the interpreter (the project's environment if there is one, else python)
set -euo pipefail
project=$(basename "$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PYTHON=${PYTHON:-.venv/$project/bin/python}
command -v "$PYTHON" >/dev/null || PYTHON=python
SEED=${SEED:-123} RATE=${RATE:-} NOISE_FILE=${NOISE_FILE:-} ARGS="${ARGS:-}${*:+ ${*@Q}}"
eval "args=($ARGS)"
export DATA_ROOT=${DATA_ROOT:-data}

slug() { printf '%s' "$1" | tr -cs 'A-Za-z0-9.' '_' | sed 's/^_//'; }

# run_folder NAME DEFAULT_RATE: the same command finds the same folder and resumes the run in it.
run_folder() {
  local noise=${RATE:-$2}
  [[ -z $NOISE_FILE ]] || noise=$(slug "$NOISE_FILE")
  printf 'runs/%s%s-seed%s%s' "$1" "${noise:+-$noise}" "$SEED" "${ARGS:+-$(slug "$ARGS")}"
}
