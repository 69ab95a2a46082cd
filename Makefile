# Everything runs in .venv, which each target makes when needed.
#   make cotrain [CONFIG=photos] [ARGS="--max_steps 100"]
#   make test | test-full | hostile | test-oldest | coverage | lint | bench | bench-data | claims | claims-gpu | demo | docs
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
OLDEST := .venv-oldest
CONSTRAINTS ?= constraints.txt
CONFIG ?= shapes
ARGS ?=
# one process on this machine; on more, see `accelerate config` and call `accelerate launch examples/cotrain.py`
LAUNCH := $(BIN)/accelerate launch --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no
# a file stays with one process, because its tests share what is slow to make
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

HOSTILE := tests/training/test_fault_points.py tests/training/test_elastic.py tests/settings/test_settings_fuzz.py \
	tests/sharing/test_checkpoint_fuzz.py tests/metrics/test_metrics_fuzz.py tests/data/test_mutated_annotations.py \
	tests/data/test_mutated_maps.py tests/demo/test_demo_load.py

.PHONY: cotrain test coverage test-full test-oldest lint bench bench-data claims claims-gpu demo docs hostile install clean

install: $(STAMP)

$(STAMP): setup.cfg pyproject.toml $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e ".[train,demo,test,lint]"
	touch $@

cotrain: $(STAMP)
	$(LAUNCH) examples/cotrain.py --config $(CONFIG) $(ARGS)

# the fast part, under five minutes on two cores
test: $(STAMP)
	$(PYTEST) $(ARGS)

# the same, and which lines they run; fails below the floor of pyproject.toml
coverage: $(STAMP)
	$(PYTEST) --cov --cov-report=term:skip-covered $(ARGS)

# all of it; ARGS="-m slow" is the rest
test-full: $(STAMP)
	$(PYTEST) -m "" $(ARGS)

# faults at every file operation of a save, damaged files, nodes that come and go, the demo under load; prints what was tried
hostile: $(STAMP)
	DATASEG_HOSTILE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "" -s $(HOSTILE) $(ARGS)

# with the oldest versions that are supported, in an environment of their own
test-oldest: $(OLDEST)/installed
	$(subst $(BIN),$(OLDEST)/bin,$(PYTEST)) -m "" $(ARGS)

$(OLDEST)/installed: setup.cfg pyproject.toml constraints-oldest.txt
	test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-oldest.txt -e ".[train,demo,test]"
	touch $@

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python -m benchmarks.model $(ARGS)

bench-data: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.data $(ARGS)

claims: $(STAMP)
	$(BIN)/python -m experiments.claims $(ARGS)

claims-gpu: $(STAMP)
	$(BIN)/python -m experiments.claims.gpu $(ARGS)

demo: $(STAMP)
	$(BIN)/python spaces/dataseg-demo/app.py

# a link that leads nowhere, or a docstring that does not render, is an error
docs: .venv/installed-docs
	$(BIN)/python -m sphinx --fail-on-warning --fresh-env --quiet -d build/doctrees docs build/docs

.venv/installed-docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e ".[docs]"
	touch $@

clean:
	rm -rf .venv $(OLDEST) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
