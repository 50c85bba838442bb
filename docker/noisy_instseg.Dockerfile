# Noisy class labels for instance segmentation on CPU or NVIDIA GPU; 6.7 GB, of which the four torch images share 6.3.
#
#   make docker-noisy_instseg        with DATASET=shapes the pictures are inside; then mount nothing at /data
#   make docker-run-noisy_instseg ARGS="-m shared data shapes"
#   make docker-run-noisy_instseg ARGS="scripts/shapes.sh"
#
# Data are read from /data and everything is written to /runs, the two folders that compose.yaml mounts. Why packages come in
# two steps: layers.awk. What may stand behind the image's name: entrypoint.sh.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS locks
WORKDIR /locks
COPY docker/layers.awk docker/requirements.txt ./
COPY noisy_instseg/requirements.txt project.txt
RUN awk -f layers.awk requirements.txt project.txt \
    && pip install --no-cache-dir --no-deps --require-hashes --disable-pip-version-check --root-user-action ignore -r uv.txt

FROM ${BASE}
ENV UV_LINK_MODE=copy UV_SYSTEM_CERTS=true
COPY --from=locks /locks/large.txt /locks/
RUN --mount=type=cache,target=/root/.cache/uv --mount=type=bind,from=locks,source=/usr/local/bin/uv,target=/usr/local/bin/uv \
    uv pip install --system --no-deps --only-binary :all: --require-hashes --compile-bytecode -r /locks/large.txt
# Of mmcv and mmdetection the index has the source alone. uv builds it where no torch is: mmcv then comes without operators of its
# own, in seconds, and those of torchvision stand in (run/torchvision_ops.py).
COPY --from=locks /locks/rest.txt /locks/
RUN --mount=type=cache,target=/root/.cache/uv --mount=type=bind,from=locks,source=/usr/local/bin/uv,target=/usr/local/bin/uv \
    uv pip install --system --no-deps --only-binary :all: --no-binary onedl-mmcv --no-binary onedl-mmdetection --require-hashes --compile-bytecode -r /locks/rest.txt

# OUTPUTS: the folders that scripts write where they are started (/src, or /repo for recipes), in the one that a user mounts.
ENV DATA_ROOT=/data \
    OUTPUTS="/runs /runs/work_dirs" \
    PYTHONPATH=/repo \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib
COPY docker/entrypoint.sh /usr/local/bin/entrypoint
COPY shared /repo/shared
COPY noisy_instseg /repo/noisy_instseg
# --user may name anybody, hence the open folders; the checkout may have been private, hence the readable code.
RUN useradd --uid 1000 --no-create-home researcher \
    && chmod -R a+rX /repo \
    && install -d -m 1777 /data /runs \
    && ln -s /repo/noisy_instseg /src \
    && for folder in $OUTPUTS; do ln -s "$folder" /src/ && ln -s "$folder" /repo/ || exit; done

ARG DATASET=
ARG DATA_MIRROR=
RUN for name in $DATASET; do python -m shared data "$name" || exit; done

USER 1000
WORKDIR /src
# An image that cannot start its script, or cannot train, or wants to download something for it, is not built. (RUN has no
# --network=none in Debian's buildah.) The end makes the folders again, for any user.
RUN export OMP_NUM_THREADS=1 http_proxy=http://offline.invalid https_proxy=http://offline.invalid \
    && entrypoint tools/train.py --help > /dev/null \
    && entrypoint -m shared data shapes --path runs/data \
    && entrypoint tools/train.py configs/shapes/mask_rcnn_tiny_shapes_ce.py --data_root runs/data/shapes \
        --limit_train 4 --limit_test 2 --cfg-options train_cfg.max_epochs=1 \
    && find /runs /tmp -mindepth 1 -user 1000 -delete \
    && umask 0 && entrypoint true

ARG REVISION=
LABEL org.opencontainers.image.title="Noisy class labels for instance segmentation" \
      org.opencontainers.image.description="Learning with noisy class labels for instance segmentation (ECCV 2020)" \
      org.opencontainers.image.documentation="noisy_instseg/README.md" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.revision="$REVISION"
ENTRYPOINT ["entrypoint"]
CMD ["tools/train.py", "--help"]
