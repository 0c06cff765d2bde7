# The worker as a container.
#
#     docker build --tag cellstream .
#     docker run --read-only --tmpfs /tmp --volume ./artifact:/artifact:ro --volume checkpoints:/checkpoints \
#         --env CELLSTREAM_BOOTSTRAP_SERVERS=kafka:9092 cellstream
#
# Every setting is a variable (docs/settings.md). BASE is any Debian image with a Python of 3.11 to 3.13; pin it by its
# digest: --build-arg BASE=python:3.12-slim-bookworm@sha256:...
# REQUIREMENTS=stores adds what checkpoints in object stores need.
# `make test-image` builds this on a base that it makes itself, and runs it.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
ARG REQUIREMENTS=worker
COPY requirements/worker.txt requirements/stores.txt /source/requirements/
# Then without what no worker ever opens, 0.4 GB: TensorFlow's headers, a C parser and a server that only its tools
# use, and the tests of packages.
RUN python3 -m venv /opt/cellstream \
    && /opt/cellstream/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes \
        --requirement /source/requirements/${REQUIREMENTS}.txt \
    && cd /opt/cellstream/lib/python3.*/site-packages \
    && rm -r tensorflow/include clang/native tensorboard_data_server/bin \
    && find . -type d -name tests -prune -exec rm -r {} +
# TensorFlow's libraries come with the names of what they do not export, which only a debugger reads: 0.26 GB.
RUN apt-get update && apt-get install --yes --no-install-recommends binutils \
    && find /opt/cellstream/lib/python3.*/site-packages/tensorflow -type f -name '*.so*' -exec strip --strip-unneeded {} +
COPY pyproject.toml README.md LICENSE /source/
COPY worker /source/worker
COPY training /source/training
RUN /opt/cellstream/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation /source

FROM ${BASE}
# As the first process of a container a program ignores every signal that it has no handler for. Before it has imported
# its libraries the worker has none, and an early SIGTERM would be lost; tini passes it on to a process with a default.
RUN apt-get update && apt-get install --yes --no-install-recommends tini && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --home-dir /nonexistent cellstream \
    && install --directory --owner cellstream /checkpoints
COPY --from=build /opt/cellstream /opt/cellstream
ENV PATH=/opt/cellstream/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TF_CPP_MIN_LOG_LEVEL=2 \
    CELLSTREAM_ARTIFACT=/artifact \
    CELLSTREAM_CHECKPOINTS=/checkpoints \
    CELLSTREAM_METRICS_HOST=0.0.0.0
USER 10001
VOLUME /checkpoints
EXPOSE 9108
STOPSIGNAL SIGTERM
# A model of some size takes a while to import, load and compile.
HEALTHCHECK --start-period=60s --interval=10s --timeout=5s --retries=3 CMD ["python3", "-m", "worker.pages.probe"]
ENTRYPOINT ["tini", "--", "cellstream"]
CMD ["run"]
