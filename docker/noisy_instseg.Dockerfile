# Noisy class labels for instance segmentation on CPU or NVIDIA GPU; 6.7 GB, nearly all of it torch and its CUDA libraries.
#
#   docker build -f docker/noisy_instseg.Dockerfile -t noisy_instseg .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD/data:/data" noisy_instseg -m shared data shapes
#   docker run --rm --gpus all --shm-size 8g --user "$(id -u):$(id -g)" -v "$PWD/data:/data" \
#       -v "$PWD/work_dirs:/repo/noisy_instseg/work_dirs" \
#       noisy_instseg tools/train.py configs/shapes/mask_rcnn_tiny_shapes_ce.py --data_root /data/shapes
#   (The published shell scripts run with --entrypoint bash: ... noisy_instseg tools/dist_train.sh CONFIG GPU_NUM)
FROM python:3.11-slim-bookworm

# Before the code, so that a change of the code reinstalls nothing. Every file is checked against the lock. Of mmcv and
# mmdetection the index has the source alone. Without torch beside it mmcv is built without operators of its own, in seconds,
# and those of torchvision stand in (run/torchvision_ops.py).
COPY noisy_instseg/requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir --no-deps --only-binary :all: --no-binary onedl-mmcv,onedl-mmdetection --require-hashes \
        --disable-pip-version-check --root-user-action ignore -r /tmp/requirements.txt

ENV DATA_ROOT=/data \
    PYTHONPATH=/repo \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib

COPY shared /repo/shared
COPY noisy_instseg /repo/noisy_instseg

# Runs are written to work_dirs where the script is started and data to /data. --user may name anybody, hence the open
# folders; the checkout may have been private, hence the readable code.
RUN useradd --uid 1000 --no-create-home researcher \
    && chmod -R a+rX /repo \
    && install -d -m 1777 /data /repo/noisy_instseg /repo/noisy_instseg/work_dirs
USER researcher
WORKDIR /repo/noisy_instseg
ENTRYPOINT ["python"]
