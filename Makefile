# `make demo` and `make test` do all set-up themselves; nothing needs to be installed by hand but Python 3.11 or 3.12.
VENV := .venv
BIN := $(VENV)/bin
CONFIG ?= dfens.toml
# the first of these that really runs (a shim may exist and refuse)
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do $$p -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && { echo $$p; break; }; done)

.PHONY: setup demo test check lint types layers folds train blend submit bench help

help:
	@echo "make demo    set-up, then the whole main job on a small generated competition (about 5 minutes)"
	@echo "make test    set-up, then all tests"
	@echo "make check   lint, types, layers, tests"
	@echo "make folds | train | blend | submit   CONFIG=path/to/dfens.toml (default: ./dfens.toml) ARGS='further options'"
	@echo "make bench   the benchmarks"

setup: $(VENV)/.installed

$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 with venv is needed and was not found; install it, or run make PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,ray]'
	@touch $@

demo: setup
	$(BIN)/dfens demo demo

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: lint types layers test

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

layers: setup
	$(BIN)/lint-imports

folds train blend submit: setup
	@test -f "$(CONFIG)" || { echo "$(CONFIG) does not exist; name one with CONFIG=path/to/dfens.toml, or write one with $(BIN)/dfens init"; exit 1; }
	@test "$$(basename "$(CONFIG)")" = dfens.toml || { echo "$(CONFIG) must be called dfens.toml, in a folder of its own, where its workspace lies"; exit 1; }
	$(BIN)/dfens -C "$$(dirname "$(CONFIG)")" $@ $(ARGS)

bench: setup
	$(BIN)/python -m benchmarks
