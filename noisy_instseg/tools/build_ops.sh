#!/usr/bin/env bash
# Compile mmcv's operators against the torch of an environment and install them there, over the mmcv that has none:
#
#     noisy_instseg/tools/build_ops.sh .venv/noisy_instseg      (what `make setup-noisy_instseg OPS=compiled` runs)
#
# Minutes the first time; afterwards the wheel comes from .venv/wheels, which outlives the environment. One wheel per Python,
# torch, platform and device. With a GPU (or FORCE_CUDA=1) the CUDA kernels are compiled too, which takes nvcc and far longer.
set -euo pipefail

environment=${1:?give the environment, such as .venv/noisy_instseg}
uv=${UV:-uv}
locked=$(dirname "$0")/../requirements.txt
fail() { echo "build_ops.sh: $*" >&2; exit 2; }

[ -x "$environment/bin/python" ] || fail "$environment is no environment; run \`make setup-noisy_instseg\` first"
environment=$(cd "$environment" && pwd) # absolute, as the build runs elsewhere
python=$environment/bin/python
device=$("$python" -c "import os, torch; print('cuda' if torch.cuda.is_available() or os.getenv('FORCE_CUDA') == '1' else 'cpu')")
command -v "${CXX:-g++}" >/dev/null || fail "${CXX:-g++} is missing; install a C++20 compiler, or stay with torchvision's operators (no OPS)"
[ "$device" = cpu ] || command -v nvcc >/dev/null ||
  fail "nvcc is missing, which the CUDA kernels need; install torch's CUDA toolkit, or stay with torchvision's operators (no OPS)"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sed -n '/^onedl-mmcv==/,/[^\\]$/p' "$locked" >"$work/mmcv.txt" # the pin with its hashes
[ -s "$work/mmcv.txt" ] || fail "$locked does not pin onedl-mmcv; run \`make lock-noisy_instseg\`"
# mmcv asks for C++17 by name; torch.s headers need C++20, and the last -std on the line is mmcv's.
cat >"$work/c++20" <<'EOF'
#!/usr/bin/env bash
exec "$REAL_CXX" "${@/#-std=c++17/-std=c++20}"
EOF
chmod +x "$work/c++20"

wheels=$(dirname "$environment")/wheels/$("$python" -c "import sys, sysconfig, torch
print(f'cp{sys.version_info[0]}{sys.version_info[1]}-torch{torch.__version__}-{sysconfig.get_platform()}')")-$device
version=$(sed -n 's/^onedl-mmcv==\([^ ]*\).*/\1/p' "$work/mmcv.txt")
wheel() { find "$1" -name "onedl_mmcv-$version-cp*.whl" 2>/dev/null | head -n 1; } # without operators it is a py3-none-any

mkdir -p "$wheels"
if [ -z "$(wheel "$wheels")" ]; then
  echo "compiling mmcv $version for $device, which takes 7 minutes on two cores"
  # A cache of its own: uv's common one keys a wheel by its source alone, and may hold one without operators, or of another torch.
  # Without isolation the build sees the environment's torch. CFLAGS replace Python's, whose -g makes the result 40 times larger.
  REAL_CXX=${CXX:-g++} CXX=$work/c++20 NVCC_APPEND_FLAGS=${NVCC_APPEND_FLAGS:--std=c++20} CFLAGS="-O2 -g0 -DNDEBUG -fwrapv" \
    PATH="$environment/bin:$PATH" UV_CACHE_DIR=$work/cache VIRTUAL_ENV=$environment "$uv" pip install --quiet --require-hashes \
    --no-deps --reinstall --no-build-isolation --no-binary onedl-mmcv -r "$work/mmcv.txt"
  built=$(wheel "$work/cache")
  [ -n "$built" ] || fail "the build made no operators; see whether $environment has torch and setuptools, and try again"
  cp "$built" "$wheels/"
fi
VIRTUAL_ENV=$environment "$uv" pip install --quiet --no-deps --reinstall "$(wheel "$wheels")"
"$python" -c "import torch, mmcv._ext" || fail "the operators do not load; remove $wheels and try again"
echo "mmcv $version with operators for $device is in $environment after $SECONDS s"
