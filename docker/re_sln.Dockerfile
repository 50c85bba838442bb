# SLN on CPU or NVIDIA GPU; 7.0 GB, nearly all of it torch and its CUDA libraries.
#
#   docker build -f docker/re_sln.Dockerfile -t re_sln .
#   docker run --rm re_sln train_cifar.py --dataset_name digits --noise_mode sym --method sln_mo_lc
#   docker run --rm -v "$PWD/data:/data" re_sln -m shared data sln-noise
#   docker run --rm --gpus all --shm-size 2g --user "$(id -u):$(id -g)" -v "$PWD/data:/data" -v "$PWD/runs:/work" -w /work \
#       re_sln /repo/re_sln/train_cifar.py --dataset_name cifar10 --noise_mode sym --method sln_mo_lc
#   (Ray, behind tune.py and table.py, wants the shared memory.)
FROM python:3.11-slim-bookworm

# Before the code, so that a change of the code installs nothing anew. Every wheel is checked against the lock.
COPY re_sln/requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir --no-deps --only-binary :all: --require-hashes --disable-pip-version-check \
        --root-user-action ignore -r /tmp/requirements.txt

ENV DATA_ROOT=/data \
    PYTHONPATH=/repo \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib

COPY shared /repo/shared
COPY re_sln /repo/re_sln

# Runs are written where the script is started (runs, configs, saved_models) and data to /data. --user may name anybody,
# hence the open folders; the checkout may have been private, hence the readable code.
RUN useradd --uid 1000 --no-create-home researcher \
    && chmod -R a+rX /repo \
    && install -d -m 1777 /data /repo/re_sln
USER researcher
WORKDIR /repo/re_sln
ENTRYPOINT ["python"]
