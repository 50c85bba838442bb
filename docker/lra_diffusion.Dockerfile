# LRA-diffusion on CPU or NVIDIA GPU; 6.5 GB, of which the four torch images share 6.3.
#
#   make docker-lra_diffusion        with DATASET=cifar10 the data set is inside; then mount nothing at /data
#   make docker-run-lra_diffusion ARGS="scripts/digits.sh"
#   docker run --rm -ti --gpus 1 -v "$PWD/data:/data" -v "$PWD/runs:/runs" lra_diffusion /bin/bash -c "cd /src && python train_CIFAR.py --noise_type cifar10-1-0.35"
#
# Data are read from /data and everything is written to /runs, the two folders that compose.yaml mounts. Why packages come in
# two steps: layers.awk. What may stand behind the image's name: entrypoint.sh.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS locks
WORKDIR /locks
COPY docker/layers.awk docker/requirements.txt ./
COPY lra_diffusion/requirements.txt project.txt
RUN awk -f layers.awk requirements.txt project.txt \
    && pip install --no-cache-dir --no-deps --require-hashes --disable-pip-version-check --root-user-action ignore -r uv.txt

FROM ${BASE}
ENV UV_LINK_MODE=copy UV_SYSTEM_CERTS=true
COPY --from=locks /locks/large.txt /locks/
RUN --mount=type=cache,target=/root/.cache/uv --mount=type=bind,from=locks,source=/usr/local/bin/uv,target=/usr/local/bin/uv \
    uv pip install --system --no-deps --only-binary :all: --require-hashes --compile-bytecode -r /locks/large.txt
COPY --from=locks /locks/rest.txt /locks/
RUN --mount=type=cache,target=/root/.cache/uv --mount=type=bind,from=locks,source=/usr/local/bin/uv,target=/usr/local/bin/uv \
    uv pip install --system --no-deps --only-binary :all: --require-hashes --compile-bytecode -r /locks/rest.txt

# OUTPUTS: the folders that scripts write where they are started (/src, or /repo for recipes), in the one that a user mounts.
ENV DATA_ROOT=/data \
    OUTPUTS="/runs /runs/model /runs/noise_label" \
    PYTHONPATH=/repo \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib
COPY docker/entrypoint.sh /usr/local/bin/entrypoint
COPY shared /repo/shared
COPY lra_diffusion /repo/lra_diffusion
# --user may name anybody, hence the open folders; the checkout may have been private, hence the readable code.
RUN useradd --uid 1000 --no-create-home researcher \
    && chmod -R a+rX /repo \
    && install -d -m 1777 /data /runs \
    && ln -s /repo/lra_diffusion /src \
    && for folder in $OUTPUTS; do ln -s "$folder" /src/ && ln -s "$folder" /repo/ || exit; done

ARG DATASET=
ARG DATA_MIRROR=
RUN for name in $DATASET; do python -m shared data "$name" || exit; done

USER 1000
WORKDIR /src
# An image that cannot start its script, or cannot train, or wants to download something for it, is not built. (RUN has no
# --network=none in Debian's buildah.) The end makes the folders again, for any user.
RUN export OMP_NUM_THREADS=1 http_proxy=http://offline.invalid https_proxy=http://offline.invalid \
    && entrypoint train_CIFAR.py --help > /dev/null \
    && entrypoint -m shared noise make --dataset digits --kind symmetric --rate 0.3 --out runs/noise.npz \
    && entrypoint train_SimCLR.py --dataset digits --limit_train 64 --nepoch 1 --batch_size 32 --output_dir runs/simclr \
    && entrypoint train_CIFAR.py --dataset digits --noise_file runs/noise.npz --cut_labels --fp_weights runs/simclr --width 4 \
        --feature_dim 16 --limit_train 64 --limit_test 16 --nepoch 1 --warmup_epochs 1 --batch_size 32 \
    && find /runs /tmp -mindepth 1 -user 1000 -delete \
    && umask 0 && entrypoint true

ARG REVISION=
LABEL org.opencontainers.image.title="LRA-diffusion" \
      org.opencontainers.image.description="Label-retrieval-augmented diffusion models for learning from noisy labels (NeurIPS 2023)" \
      org.opencontainers.image.documentation="lra_diffusion/README.md" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.revision="$REVISION"
ENTRYPOINT ["entrypoint"]
CMD ["train_CIFAR.py", "--help"]
