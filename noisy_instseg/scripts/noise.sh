# Sourced after common.sh. KIND: symmetric (default) or asymmetric.
KIND=${KIND:-symmetric}

# In the name of a folder: nothing for symmetric noise, so that folders of before are found.
kind_in_name() { [[ -n $NOISE_FILE || $KIND == symmetric ]] || printf '%s' "-$KIND"; }

# noisy_labels DATASET CLEAN RATE OUT: the file to train on, NOISE_FILE if given; else OUT is made.
noisy_labels() {
  if [[ -n $NOISE_FILE ]]; then
    printf '%s' "$NOISE_FILE"
    return
  fi
  "$PYTHON" -m shared noise make --format coco --dataset "$1" --ann "$2" --kind "$KIND" \
    --rate "${RATE:-$3}" --seed "$SEED" --out "$4" >&2 && printf '%s' "$4"
}
