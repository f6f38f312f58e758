# Diptych in a container: `docker build -t diptych .` for NVIDIA GPUs, `--build-arg DEVICE=cpu` for any x86-64 machine.
# docs/running.md, "In a container", says how to run it, with sign-in or as a public demo.
ARG DEVICE=gpu

# vLLM's wheels bring CUDA's libraries; the driver is the host's. What a plain Python image lacks is nvcc: FlashInfer,
# which vLLM samples with on a GPU, compiles its kernels with it on first use (vLLM issue 49497).
FROM nvidia/cuda:13.0.2-devel-ubuntu24.04 AS base-gpu
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM python:3.12-slim-bookworm AS base-cpu
# vLLM's CPU kernels are linked against libnuma.
RUN apt-get update && apt-get install -y --no-install-recommends libnuma1 && rm -rf /var/lib/apt/lists/*

FROM base-${DEVICE}
ARG DEVICE

# A C++ compiler and Python's headers are needed when the app runs, on a CPU too: vLLM counts the ranks of
# log-probabilities with a function that torch compiles on first use. tini ends what the engines leave behind.
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential tini $([ "$DEVICE" = cpu ] || echo python3-dev python3-venv) \
    && rm -rf /var/lib/apt/lists/*

# Spaces run a container as user 1000. Ubuntu's image has given that number away.
RUN (userdel --remove ubuntu 2>/dev/null || true) \
    && useradd --create-home --uid 1000 user \
    && mkdir -p /app /data /shared && chown user:user /app /data /shared
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH

# Before the code, so that a change of the code does not install everything again.
WORKDIR /app
COPY requirements.txt requirements-cpu.txt ./
RUN pip install --no-cache-dir -r "$([ "$DEVICE" = cpu ] && echo requirements-cpu.txt || echo requirements.txt)"

COPY LICENSE app.py ./
COPY components components
COPY profiles profiles
COPY assets assets
# The app's user can't write here: without this, every start would compile all of it again.
RUN python -m compileall -q components app.py

USER 1000
# Records, pictures and prepared models; mount a volume there to keep them. Sockets lie there too, so it must be a
# local file system.
ENV HOME=/home/user \
    DIPTYCH_STATE_DIR=/data/diptych \
    HF_HOME=/data/huggingface \
    PYTHONUNBUFFERED=1
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ.get('DIPTYCH_PORT', '7860') + '/healthz', timeout=4)"]

ENTRYPOINT ["tini", "--", "python", "app.py"]
# A Space is a demo. With DIPTYCH_USERS set, give `--host 0.0.0.0` alone: then nobody comes in without sign-in.
CMD ["--host", "0.0.0.0", "--public"]
