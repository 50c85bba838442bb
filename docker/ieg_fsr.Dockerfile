# IEG and FSR on CPU or NVIDIA GPU; 7.2 GB, nearly all of it TensorFlow and its CUDA libraries.
#
#   docker build -f docker/ieg_fsr.Dockerfile -t ieg_fsr .
#   docker run --rm ieg_fsr -m ieg.main --dataset=digits_uniform_0.6 --network_name=wrn10-1 --method=l2r --max_iteration=400
#   docker run --rm -v "$PWD/data:/data" ieg_fsr -m shared data cifar100
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" -v "$PWD/data:/data" -v "$PWD/runs:/repo/ieg_fsr/runs" \
#       ieg_fsr -m ieg.main --dataset=cifar100_uniform_0.4 --network_name=wrn28-10 --checkpoint_path=runs
#   (Without --checkpoint_path the run stays in the container's /tmp/ieg and is gone with it. The published scripts run
#   with --entrypoint bash: ... ieg_fsr ieg/scripts/run_fsr_cifar_longtail.sh --checkpoint_path=runs)
FROM python:3.11-slim-bookworm

# Before the code, so that a change of the code does not reinstall it. Every wheel is checked against the lock.
COPY ieg_fsr/requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir --no-deps --only-binary :all: --require-hashes --disable-pip-version-check \
        --root-user-action ignore -r /tmp/requirements.txt

ENV DATA_ROOT=/data \
    PYTHONPATH=/repo \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib

COPY shared /repo/shared
COPY ieg_fsr /repo/ieg_fsr

# Runs are written to --checkpoint_path and data to /data. --user may name anybody, hence the open folders; the checkout may
# have been private, hence the readable code.
RUN useradd --uid 1000 --no-create-home researcher \
    && chmod -R a+rX /repo \
    && install -d -m 1777 /data /repo/ieg_fsr /repo/ieg_fsr/runs
USER researcher
WORKDIR /repo/ieg_fsr
ENTRYPOINT ["python"]
