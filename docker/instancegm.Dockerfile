# InstanceGM on CPU or NVIDIA GPU; 6.4 GB, nearly all of it torch and its CUDA libraries.
#
#   docker build -f docker/instancegm.Dockerfile -t instancegm .
#   docker run --rm instancegm instanceGM.py --dataset digits --r 0.4
#   docker run --rm -v "$PWD/data:/data" instancegm -m shared data cifar10
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" -v "$PWD/data:/data" -v "$PWD/runs:/repo/instancegm/runs" \
#       instancegm instanceGM.py --r 0.5
FROM python:3.11-slim-bookworm

# Before the code, so that a change of the code reinstalls nothing. Every wheel is checked against the lock.
COPY instancegm/requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir --no-deps --only-binary :all: --require-hashes --disable-pip-version-check \
        --root-user-action ignore -r /tmp/requirements.txt

ENV DATA_ROOT=/data \
    PYTHONPATH=/repo \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib

COPY shared /repo/shared
COPY instancegm /repo/instancegm

# Runs are written where the script is started and data to /data. --user may name anybody, hence the open folders; the
# checkout may have been private, hence the readable code.
RUN useradd --uid 1000 --no-create-home researcher \
    && chmod -R a+rX /repo \
    && install -d -m 1777 /data /repo/instancegm /repo/instancegm/runs
USER researcher
WORKDIR /repo/instancegm
ENTRYPOINT ["python"]
