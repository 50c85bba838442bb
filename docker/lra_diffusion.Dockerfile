# LRA-diffusion on CPU or NVIDIA GPU; 6.5 GB, nearly all of it torch and its CUDA libraries.
#
#   docker build -f docker/lra_diffusion.Dockerfile -t lra_diffusion .
#   mkdir -p data work model runs
#   run="docker run --rm --user $(id -u):$(id -g) -v $PWD/data:/data -v $PWD/work:/work -w /work lra_diffusion /repo/lra_diffusion"
#   $run/make_pmd.py --dataset digits --rate 0.35
#   $run/train_SimCLR.py --dataset digits
#   $run/train_CIFAR.py --noise_type digits-1-0.35
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" -v "$PWD/data:/data" -v "$PWD/model:/repo/lra_diffusion/model" \
#       -v "$PWD/runs:/repo/lra_diffusion/runs" lra_diffusion train_CIFAR.py --noise_type cifar10-1-0.35 --fp_encoder SimCLR
#   (Weights of encoders are read from model/, and trained models are written there. The processes that decode Food-101N,
#   Clothing1M and WebVision want shared memory: --shm-size 4g.)
FROM python:3.11-slim-bookworm

# Before the code, so that a change of the code installs nothing anew. Every wheel is checked against the lock.
COPY lra_diffusion/requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir --no-deps --only-binary :all: --require-hashes --disable-pip-version-check \
        --root-user-action ignore -r /tmp/requirements.txt

ENV DATA_ROOT=/data \
    PYTHONPATH=/repo \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib

COPY shared /repo/shared
COPY lra_diffusion /repo/lra_diffusion

# Models, runs and label files are written where the script is started (model, runs, noise_label), data and embeddings to
# /data. --user may name anybody, hence the open folders; the checkout may have been private, hence the readable code.
RUN useradd --uid 1000 --no-create-home researcher \
    && chmod -R a+rX /repo \
    && install -d -m 1777 /data /repo/lra_diffusion /repo/lra_diffusion/model /repo/lra_diffusion/runs
USER researcher
WORKDIR /repo/lra_diffusion
ENTRYPOINT ["python"]
