#!/usr/bin/env bash
# Compile mmcv's operators against the torch of an environment and install them there, over the mmcv that has none:
#
#     noisy_instseg/tools/build_ops.sh .venv/noisy_instseg      (what `make setup-noisy_instseg OPS=compiled` runs)
#
# Minutes the first time; afterwards the wheel comes from .venv/wheels, which outlives the environment. One wheel per Python,
# torch, platform and device. With a GPU (or FORCE_CUDA=1) the CUDA kernels are compiled too, which takes nvcc and far longer.
# The operators stay until the environment is made again; `rm -r .venv/noisy_instseg` and the target without OPS bring
# torchvision's back. CXX names another compiler, MAX_JOBS how many files are compiled at once (as many as there are cores).
set -euo pipefail

environment=${1:?give the environment, such as .venv/noisy_instseg}
uv=${UV:-uv}
locked=$(dirname "$0")/../requirements.txt
fail() { echo "build_ops.sh: $*" >&2; exit 2; }

[ -x "$environment/bin/python" ] || fail "$environment is no environment; run \`make setup-noisy_instseg\` first"
environment=$(cd "$environment" && pwd) # absolute, as the build runs elsewhere
python=$environment/bin/python
compiler=${CXX:-g++}
# A CUDA kernel runs on the kinds of GPU that it was compiled for: those present, unless TORCH_CUDA_ARCH_LIST names others.
read -r key device < <("$python" -c "import os, sys, sysconfig, torch
present = {'%d.%d' % torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())}
kinds = os.getenv('TORCH_CUDA_ARCH_LIST', '').replace(' ', ';') or ';'.join(sorted(present))
device = 'cuda' + kinds if present or os.getenv('FORCE_CUDA') == '1' else 'cpu'
print(f'cp{sys.version_info[0]}{sys.version_info[1]}-torch{torch.__version__}-{sysconfig.get_platform()}', device)") ||
  fail "$environment has no usable torch; remove it and run \`make setup-noisy_instseg\` again"
command -v "${compiler%% *}" >/dev/null ||
  fail "$compiler is missing; install a C++20 compiler, or stay with torchvision's operators (no OPS)"
[ "$device" = cpu ] || command -v nvcc "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" >/dev/null ||
  fail "nvcc is missing, which the CUDA kernels need; install torch's CUDA toolkit, or stay with torchvision's operators (no OPS)"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sed -n '/^onedl-mmcv==/,/[^\\]$/p' "$locked" >"$work/mmcv.txt" # the pin with its hashes
[ -s "$work/mmcv.txt" ] || fail "$locked does not pin onedl-mmcv; run \`make lock-noisy_instseg\`"
# ninja compiles several files at once; nothing but this build needs it, so it is fetched for it alone, checked like the lock.
cat >"$work/ninja.txt" <<'EOF'
ninja==1.13.2 \
    --hash=sha256:65a24341b5ac09fcadcc37082660be40a94174e51a937fabf6e2cae26225fa2c \
    --hash=sha256:d775a5e43e9088f507a6250d57fcf5678eb31268c545feb5064ffeee33735622 \
    --hash=sha256:fd82e26c0706ad4ab88e5fdd26f3fab0a987a90f810160f6c322e752c6af298b \
    --hash=sha256:525bfa3fc88aa30a4467df270fd5be6f9fcae8061d54d4df74ea1dc5abd5a975
EOF
# mmcv asks for C++17 by name; torch's headers need C++20, and the last -std on the line is mmcv's.
cat >"$work/c++20" <<'EOF'
#!/usr/bin/env bash
exec $REAL_CXX "${@/#-std=c++17/-std=c++20}"
EOF
chmod +x "$work/c++20"

wheels=$(dirname "$environment")/wheels/$key-$device
version=$(sed -n 's/^onedl-mmcv==\([^ ]*\).*/\1/p' "$work/mmcv.txt")
wheel() { find "$1" -name "onedl_mmcv-$version-cp*.whl" 2>/dev/null | head -n 1; } # without operators it is a py3-none-any

mkdir -p "$wheels"
if [ -z "$(wheel "$wheels")" ]; then
  echo "compiling mmcv $version for $device, which takes 7 minutes on two cores"
  VIRTUAL_ENV=$environment "$uv" pip install --quiet --require-hashes --target "$work/tools" -r "$work/ninja.txt"
  # A cache of its own: uv's common one keys a wheel by its source alone, and may hold one without operators or of another
  # torch. Without isolation the build sees the environment's torch. CFLAGS replace Python's, whose -g makes the result 40
  # times larger.
  REAL_CXX=$compiler CXX=$work/c++20 NVCC_APPEND_FLAGS=${NVCC_APPEND_FLAGS:--std=c++20} CFLAGS="-O2 -g0 -DNDEBUG -fwrapv" \
    MAX_JOBS=${MAX_JOBS:-$(nproc)} PATH="$work/tools/bin:$environment/bin:$PATH" \
    UV_CACHE_DIR=$work/cache VIRTUAL_ENV=$environment "$uv" pip install --quiet --require-hashes --no-deps --reinstall \
    --no-build-isolation --no-binary onedl-mmcv -r "$work/mmcv.txt" ||
    fail "mmcv did not compile: fix the error above, or stay with torchvision's operators (no OPS)"
  built=$(wheel "$work/cache")
  [ -n "$built" ] || fail "the build made no operators; see whether $environment has torch and setuptools, and try again"
  cp "$built" "$wheels/partial" # then named in one step, so that a wheel found later is whole
  mv "$wheels/partial" "$wheels/$(basename "$built")"
fi
VIRTUAL_ENV=$environment "$uv" pip install --quiet --no-deps --reinstall "$(wheel "$wheels")"
"$python" -c "import torch, mmcv._ext" || fail "the operators do not load; remove $wheels and try again"
echo "mmcv $version with operators for $device is in $environment after $SECONDS s"
