# syntax=docker/dockerfile:1
# Two images from one file: `docker build --target cpu .` and `docker build --target gpu .`; compose.yaml runs them.
# scripts/container_check runs every step of the first without a Docker engine and asks its server a question.
#
# A container listens at every address, so it starts only with QUORUM_INFERENCE_KEY (a gateway checks the key) or with
# QUORUM_TRUSTED_NETWORK=1 (all who reach the container are trusted); see SECURITY.md.
#
# An index of your own goes in as a secret, which no layer keeps:
#   docker build --secret id=pip,src=$HOME/.config/pip/pip.conf --target cpu .
#
# Labels say what an image was built from, if the build says it:
#   docker build --build-arg REVISION=$(git rev-parse HEAD) --build-arg CREATED=$(git log -1 --format=%cI) --target cpu .

# ---- cpu: everything in a virtual environment on plain Debian ---------------------------------------------------------
FROM debian:12.12-slim AS python
# The server's Python stub is linked against the shared libpython.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libpython3.11 python3 \
    && rm -rf /var/lib/apt/lists/*

FROM python AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements/run.txt requirements/constraints.txt requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv /opt/quorum \
    && /opt/quorum/bin/pip install --no-cache-dir -r requirements/run.txt -c requirements/constraints.txt
COPY client client
COPY ensemble_backend ensemble_backend
# What only builds or tests use is not shipped.
RUN /opt/quorum/bin/pip install --no-cache-dir --no-deps --no-build-isolation ./client ./ensemble_backend \
    && /opt/quorum/bin/pip uninstall -y pip setuptools \
    && find /opt/quorum -depth \( -name __pycache__ -o -name tests \) -type d -exec rm -rf {} +

FROM python AS cpu
ARG REVISION=unknown
ARG CREATED=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="quorum" \
      org.opencontainers.image.description="Several LLMs in one Triton server answer as one, by learned weights" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.base.name="debian:12.12-slim"
COPY --from=build /opt/quorum /opt/quorum
ENV PATH=/opt/quorum/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    QUORUM_HOST=0.0.0.0
RUN groupadd --gid 10001 quorum \
    && useradd --uid 10001 --gid quorum --home-dir /srv/quorum --create-home --shell /usr/sbin/nologin quorum \
    && mkdir -p /srv/quorum/.quorum/budgets \
    && chown -R quorum:quorum /srv/quorum
WORKDIR /srv/quorum
COPY --chown=quorum:quorum deploy.yaml ./
COPY --chown=quorum:quorum model_repository model_repository
COPY --chown=quorum:quorum examples/demo/models examples/demo/models
USER 10001:10001
# Learned weights live here: mount a volume, or they go with the container.
VOLUME ["/srv/quorum/model_repository"]
EXPOSE 8001 8002
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=15s --start-period=180s --retries=3 CMD ["quorum", "probe", "--timeout", "10"]
# A volume may hold the repository of an older deploy.yaml: rendering brings it up to date and keeps versions and pins.
CMD ["sh", "-c", "quorum render && exec quorum up"]

# ---- gpu: Triton's own container with TensorRT-LLM. Unverified on GPU. ------------------------------------------------
# The tag is the one of quorum/engines/versions.py; a test holds the two together.
FROM nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3 AS gpu
ARG REVISION=unknown
ARG CREATED=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="quorum" \
      org.opencontainers.image.description="Several LLMs on TensorRT-LLM in one Triton server answer as one" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.base.name="nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3"
WORKDIR /src
COPY client client
COPY ensemble_backend ensemble_backend
# The container's own packages (PyTorch, TensorRT-LLM, numpy) are constraints: nothing of them is replaced.
RUN --mount=type=secret,id=pip,target=/root/.config/pip/pip.conf \
    python3 -m pip list --format=freeze > /tmp/container.txt \
    && python3 -m pip install --no-cache-dir --break-system-packages -c /tmp/container.txt \
        ./client "./ensemble_backend[deploy,openai]" \
    # Triton refuses libraries outside of its backend directory, and copying that at each start would take gigabytes.
    && cp -r "$(python3 -c 'import pathlib, quorum; print(pathlib.Path(quorum.__file__).parent)')"/backends/. \
        /opt/tritonserver/backends/ \
    && rm -rf /src /tmp/container.txt
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/models/huggingface \
    QUORUM_DEPLOY=deploy.gpu.yaml \
    QUORUM_HOST=0.0.0.0
RUN groupadd --gid 10001 quorum \
    && useradd --uid 10001 --gid quorum --home-dir /srv/quorum --create-home --shell /usr/sbin/nologin quorum \
    && mkdir -p /models /srv/quorum/model_repository.gpu /srv/quorum/engines /srv/quorum/.quorum/budgets \
    && chown -R quorum:quorum /models /srv/quorum
WORKDIR /srv/quorum
COPY --chown=quorum:quorum deploy.gpu.yaml deploy.gpu-fp8.yaml deploy.engine.yaml ./
USER 10001:10001
VOLUME ["/srv/quorum/model_repository.gpu", "/srv/quorum/engines", "/models"]
EXPOSE 8001 8002
STOPSIGNAL SIGTERM
# Loading three LLMs takes minutes.
HEALTHCHECK --interval=30s --timeout=15s --start-period=900s --retries=3 CMD ["quorum", "probe", "--timeout", "10"]
CMD ["sh", "-c", "quorum render && exec quorum up --start-timeout 900"]
