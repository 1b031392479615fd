# `make demo` and `make test` do all set-up themselves; only Python 3.11, 3.12 or 3.13 has to be installed beforehand.
VENV := .venv
BIN := $(VENV)/bin
CONFIG ?= dfens.toml
GPU_PYTHON ?= python3
WHEELS ?=
# The first of these that runs: a pyenv shim may exist and still fail.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do $$p -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && { echo $$p; break; }; done)

.PHONY: setup demo demo-av test test-slow test-oldest wheel-demo check lint types layers docs guide folds train blend submit bench gpu help

help:
	@echo "make demo                           set up, then run the whole pipeline on a small generated competition (about 5 minutes)"
	@echo "make demo-av                        the same on generated clips with sound (about 7 minutes)"
	@echo "make test                           set up, then run all tests except the slow ones"
	@echo "make test-slow                      run the slow tests: clusters, killed processes, races, training with every recipe"
	@echo "make test-oldest                    run the tests on the oldest supported versions (constraints-oldest.txt)"
	@echo "make check                          lint, types, import layers, all tests"
	@echo "make folds | train | blend | submit run one step; CONFIG=path/to/dfens.toml (default: ./dfens.toml), ARGS='further options'"
	@echo "make docs                           build the guide and the reference as a static site"
	@echo "make guide                          run the commands of every chapter of the guide in build/guide"
	@echo "make bench                          run the benchmarks"
	@echo "make gpu                            on a machine with a CUDA device: run its tests and benchmarks, write build/gpu.md (9 minutes)"
	@echo "make wheel-demo                     build the wheel, install it in an empty environment and run dfens demo from it"

setup: $(VENV)/.installed

$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 with venv was not found. Install it, or run make PYTHON=/path/to/python3.12"; exit 1; }
	@echo "Installing dfens and its dependencies into $(VENV): about 7 GB, mostly PyTorch with CUDA; a few minutes without output"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,ray]'
	@touch $@

demo: setup
	$(BIN)/dfens demo demo

demo-av: setup
	$(BIN)/dfens demo demo-av --recipe demo-av

# Tests marked slow (clusters, killed processes, races, training with every recipe) take as long again: make test-slow.
test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

test-slow: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

# Without Ray, mypy and the type stubs: the Ray tests are skipped, and types are checked on the newest versions only.
test-oldest:
	@test -n "$(PYTHON)" || { echo "Python 3.11 with venv was not found. Run make test-oldest PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-oldest.txt -e '.[test]'
	.venv-oldest/bin/python -m pytest -n 2 --dist loadfile -m "not slow"

wheel-demo:
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 with venv was not found. Run make wheel-demo PYTHON=/path/to/python3.12"; exit 1; }
	rm -rf build/wheel && mkdir -p build/wheel
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheel .
	build/wheel/venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt build/wheel/dfens-*.whl
	cd build/wheel && venv/bin/dfens demo demo

check: lint types layers test test-slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

layers: setup
	$(BIN)/lint-imports

folds train blend submit: setup
	@test -f "$(CONFIG)" || { echo "$(CONFIG) does not exist; name one with CONFIG=path/to/dfens.toml, or write one with $(BIN)/dfens init"; exit 1; }
	@test "$$(basename "$(CONFIG)")" = dfens.toml || { echo "$(CONFIG) must be named dfens.toml and be in a folder of its own, which will also contain the workspace"; exit 1; }
	$(BIN)/dfens -C "$$(dirname "$(CONFIG)")" $@ $(ARGS)

# Half an hour: the demos, trainings and ablations of all chapters. A few minutes with IMAGES=80. CHAPTERS="2 5" runs
# these chapters only; each needs the demo of chapter 1, and 7 and 8 that of chapter 6.
guide: setup
	$(BIN)/python -m docs.run_chapters build/guide $(if $(IMAGES),--images $(IMAGES)) $(addprefix --chapter ,$(CHAPTERS))

docs: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/python -m sphinx -W --keep-going -q -b dirhtml docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: setup
	$(BIN)/python -m benchmarks

# No set-up: this target is for machines without a package index and uses the Python that has torch there.
gpu:
	$(GPU_PYTHON) benchmarks/gpu.py $(if $(WHEELS),--wheels $(WHEELS)) $(ARGS)
