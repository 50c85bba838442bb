# IEG and FSR on CPU or NVIDIA GPU; 7.2 GB, nearly all of it TensorFlow and its CUDA libraries.
#
#   make docker-ieg_fsr        with DATASET=cifar10 the data set is inside; then mount nothing at /data
#   make docker-run-ieg_fsr ARGS="-m ieg.main --dataset=digits_uniform_0.6 --network_name=wrn10-1 --method=l2r --max_iteration=400"
#   make docker-ieg_fsr VARIANT=cpu        the same without CUDA, 2.2 GB
#
# Data are read from /data and everything is written to /runs, the two folders that compose.yaml mounts. Why packages come in
# two steps: layers.awk. What may stand behind the image's name: entrypoint.sh.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS locks
ARG VARIANT=gpu
WORKDIR /locks
COPY docker/layers.awk docker/requirements.txt ./
COPY ieg_fsr/requirements.txt project.txt
RUN awk -v variant="$VARIANT" -f layers.awk requirements.txt project.txt \
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
    OUTPUTS="/runs" \
    PYTHONPATH=/repo \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib
COPY docker/entrypoint.sh /usr/local/bin/entrypoint
COPY shared /repo/shared
COPY ieg_fsr /repo/ieg_fsr
# --user may name anybody, hence the open folders; the checkout may have been private, hence the readable code.
RUN useradd --uid 1000 --no-create-home researcher \
    && chmod -R a+rX /repo \
    && install -d -m 1777 /data /runs \
    && ln -s /repo/ieg_fsr /src \
    && for folder in $OUTPUTS; do ln -s "$folder" /src/ && ln -s "$folder" /repo/ || exit; done

ARG DATASET=
ARG DATA_MIRROR=
RUN for name in $DATASET; do python -m shared data "$name" || exit; done

USER 1000
WORKDIR /src
# An image that cannot start its script, or cannot train, or wants to download something for it, is not built. (RUN has no
# --network=none in Debian's buildah.) The end makes the folders again, for any user.
RUN export OMP_NUM_THREADS=1 http_proxy=http://offline.invalid https_proxy=http://offline.invalid \
    && entrypoint -m ieg.main --help > /dev/null \
    && entrypoint -m ieg.main --dataset=digits_uniform_0.4 --network_name=wrn10-1 --method=fsr --max_iteration=2 \
        --limit_train=200 --limit_test=20 --batch_size=20 --queue_capacity=40 --queue_bs=20 --checkpoint_path=runs \
    && find /runs /tmp -mindepth 1 -user 1000 -delete \
    && umask 0 && entrypoint true

ARG REVISION=
LABEL org.opencontainers.image.title="IEG and FSR" \
      org.opencontainers.image.description="Distilling effective supervision (CVPR 2020) and fast sample re-weighting (ICCV 2021)" \
      org.opencontainers.image.documentation="ieg_fsr/README.md" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.revision="$REVISION"
ENTRYPOINT ["entrypoint"]
CMD ["-m", "ieg.main", "--help"]
