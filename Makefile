# What a person and a CI service type. `make` alone says what there is.
# Every target makes the virtual environment it needs, from hash-pinned requirements; a second run starts at once.

PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$name && break; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check
# Test files that run at once, each process with brokers of its own; much of their time is waiting.
JOBS ?= 2
AUDIT := $(VENV)/audit/bin
PROFILE := $(VENV)/profile/bin
PEERS := streams onnx quix bytewax flink
UV ?= uv
CPU := --override requirements/worker.in
LOCK := $(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-upgrade check format bench peers flame experiments aims chaos soak endurance fuzz test-alerts stores test-image test-kubernetes audit sbom lock clean

help:  ## say what there is
	@echo "cellstream: make TARGET [PYTHON=python3.12]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' Makefile

venv: $(VENV)/demo.stamp  ## the virtual environment, with what the worker, training and the demo need

demo: $(VENV)/demo.stamp  ## train a model and stream real recordings through it, on the embedded broker
	@$(BIN)/cellstream demo $(ARGS)

test: $(VENV)/test.stamp  ## all tests, on a real Apache Kafka too; says which broker it took (ARGS: pytest's)
	$(BIN)/pytest --numprocesses $(JOBS) --dist loadfile $(ARGS)

check: $(VENV)/test.stamp  ## format, lint and types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

format: $(VENV)/test.stamp  ## write the code as `check` wants it, where a tool can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(VENV)/test.stamp  ## what is aimed at, measured: 20 minutes; ARGS='--row latency', ARGS=--quick, ARGS=--list
	@$(BIN)/python -m tests.bench $(ARGS)

peers: $(PEERS:%=.cache/peers/%.stamp)  ## programs in other frameworks, for `make bench ARGS='--row peers'`; needs Maven and the network

flame: $(VENV)/test.stamp $(VENV)/profile.stamp  ## where a worker's time goes: docs/performance-flame*.svg; two minutes
	@$(BIN)/python -m tests.bench.flame --py-spy $(PROFILE)/py-spy $(ARGS)

experiments: $(VENV)/test.stamp  ## the systems that this grew from, and docs/experiments.md with what was measured
	@$(BIN)/cellstream experiments run --all --out docs $(ARGS)

aims: $(VENV)/test.stamp  ## what training must reach on four archived sets, and docs/aims.md; an hour, goes on where it was stopped
	@$(BIN)/python -m training.aims --write $(ARGS)

chaos: $(VENV)/test.stamp  ## one fault on a real broker, held to all laws: make chaos SCENARIO=zombie SEED=7; alone it lists them
	@$(BIN)/python -m tests.chaos $(if $(SCENARIO),run $(SCENARIO) $(if $(SEED),--seed $(SEED)),list) $(ARGS)

soak: $(VENV)/test.stamp  ## a random mix of all faults: make soak ARGS='--kills 1000 --faults 200 --seed 1'; ten minutes alone
	@$(BIN)/python -m tests.chaos soak $(if $(SEED),--seed $(SEED)) $(ARGS)

test-upgrade: $(VENV)/test.stamp  ## workers of an earlier commit and today's in one group, there and back (FROM=commit): ten minutes
	@$(if $(FROM),UPGRADE_FROM=$(FROM)) $(BIN)/python -m tests.chaos run 'upgrade:*' $(if $(SEED),--seed $(SEED)) $(ARGS)

endurance: $(VENV)/test.stamp  ## streams that come and go at half of the greatest rate, docs/reliability.md: two hours; ARGS='--minutes 10'
	@$(BIN)/python -m tests.bench.endurance --write $(ARGS)

fuzz: $(VENV)/test.stamp $(VENV)/fuzz.stamp  ## damaged input by the million: make fuzz COUNT=1000000; 100,000 of each kind alone; Linux on x86-64
	@$(BIN)/python -m tests.security.fuzz $(if $(COUNT),--count $(COUNT)) $(if $(SEED),--seed $(SEED)) $(ARGS)

stores: $(VENV)/test.stamp  ## checkpoints in MinIO, fake-gcs-server and Azurite, with every fault; needs Go and npm
	TESTS_STORES=real $(BIN)/pytest tests/stores --numprocesses 3 --dist loadgroup $(ARGS)

test-alerts: $(VENV)/test.stamp  ## fire every alert once for real: faults, workers, Kafka and Prometheus; ten minutes
	TESTS_ALERTS=1 $(BIN)/pytest --durations 0 tests/deploy/test_worker_down.py tests/deploy/test_alerts_fire.py $(ARGS)

test-image: $(VENV)/test.stamp  ## build and run the Dockerfile and the compose file; needs Docker, and debootstrap or BASE=python:3.12-slim-bookworm; half an hour
	TESTS_IMAGE=1 TESTS_IMAGE_BASE=$(BASE) $(BIN)/pytest tests/image $(ARGS)

test-kubernetes: $(VENV)/test.stamp  ## deploy/kubernetes on a real control plane; needs Go, Maven and 6 GB of disk; ten minutes, the first time more
	TESTS_KUBERNETES=1 $(BIN)/pytest tests/kubernetes $(ARGS)

audit: $(VENV)/audit.stamp  ## known vulnerabilities of what requirements/*.txt lock; asks PyPI, so it needs the network
	$(AUDIT)/pip-audit --strict --disable-pip --require-hashes $(foreach file,worker stores demo test,--requirement requirements/$(file).txt) $(ARGS)

sbom: $(VENV)/audit.stamp  ## sbom.json: what the worker is made of, by its lock (CycloneDX); needs no network
	$(AUDIT)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --output-file sbom.json \
		requirements/worker.txt $(ARGS)

lock:  ## compile requirements/*.txt anew from pyproject.toml (needs uv)
	$(LOCK) $(CPU) --extra registry --extra otel --output-file requirements/worker.txt pyproject.toml requirements/worker.in
	$(LOCK) $(CPU) --extra registry --extra otel --extra s3 --extra gcs --extra azure --extra packing \
		--output-file requirements/stores.txt pyproject.toml requirements/worker.in
	$(LOCK) --extra training --output-file requirements/demo.txt pyproject.toml
	$(LOCK) --extra test --output-file requirements/test.txt pyproject.toml
	$(LOCK) --python-version 3.11 --output-file requirements/audit.txt requirements/audit.in
	$(LOCK) --python-version 3.11 --output-file requirements/profile.txt requirements/profile.in
	$(LOCK) --python-version 3.11 --output-file requirements/fuzz.txt requirements/fuzz.in

clean:  ## remove what the targets made: environment, fetched jars, caches
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

# test.txt holds all of demo.txt, so the environment only ever grows from the one to the other.
$(VENV)/demo.stamp $(VENV)/test.stamp: $(VENV)/%.stamp: requirements/%.txt pyproject.toml | $(VENV)/python.stamp
	@echo "installing requirements/$*.txt into $(VENV); the first time takes some minutes"
	@$(INSTALL) --require-hashes --requirement $<
	@$(INSTALL) --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/fuzz.stamp: requirements/fuzz.txt | $(VENV)/test.stamp
	@$(INSTALL) --quiet --require-hashes --requirement $<
	@touch $@

# The peers stand apart from cellstream and from each other: Java from Maven, Python in an environment of each its own.
.cache/peers/streams.stamp: tests/bench/peers/streams/pom.xml $(wildcard tests/bench/peers/streams/src/main/java/peer/*.java)
	@echo "fetching and compiling Kafka Streams' programs into .cache/peers"
	@mvn -q -B -f $< -Dpeer.directory=$(CURDIR)/.cache/peers/streams compile dependency:copy-dependencies
	@touch $@

.cache/peers/flink.stamp: | .cache/peers/connector.stamp
.cache/peers/connector.stamp: tests/bench/peers/connector.xml
	@mvn -q -B -f $< -Dpeer.directory=$(CURDIR)/.cache/peers/connector dependency:copy-dependencies
	@touch $@

.cache/peers/onnx.stamp: | .cache/peers/streams.stamp
.cache/peers/onnx.stamp .cache/peers/quix.stamp .cache/peers/bytewax.stamp .cache/peers/flink.stamp: \
		.cache/peers/%.stamp: tests/bench/peers/%.txt | $(VENV)/python.stamp
	@echo "installing tests/bench/peers/$*.txt into .cache/peers/$*"
	@mkdir -p $(@D) && $(BIN)/python -m venv --clear .cache/peers/$*
	@.cache/peers/$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	@touch $@

# Apart from the rest: what examines the packages is none of them, and needs other versions of some.
$(VENV)/audit.stamp $(VENV)/profile.stamp: $(VENV)/%.stamp: requirements/%.txt | $(VENV)/python.stamp
	@$(BIN)/python -m venv $(VENV)/$*
	@$(VENV)/$*/bin/python -m pip install --disable-pip-version-check --quiet --require-hashes --requirement $<
	@touch $@

$(VENV)/python.stamp:
	@test -n "$(PYTHON)" || { echo "cellstream needs Python 3.11, 3.12 or 3.13, and none is on the path; install one, or name" \
		"one: make PYTHON=/path/to/python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || { \
		echo "cellstream needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is none of them; name another:" \
		"make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@
