# The commands with what training and the bundled recordings need; for compose.yaml. Workers run in the image of Dockerfile.
ARG BASE=python:3.12-slim-bookworm
FROM ${BASE}
COPY requirements/demo.txt /source/requirements/
RUN python3 -m venv /opt/cellstream \
    && /opt/cellstream/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes \
        --requirement /source/requirements/demo.txt
COPY pyproject.toml README.md LICENSE /source/
COPY worker /source/worker
COPY training /source/training
RUN /opt/cellstream/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation /source
ENV PATH=/opt/cellstream/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TF_CPP_MIN_LOG_LEVEL=2
ENTRYPOINT ["cellstream"]
