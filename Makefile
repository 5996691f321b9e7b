# Each command does everything, set-up included.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKDIR ?= runs/quickstart
# A file's tests stay in one process, which makes its fixtures once; tests/conftest.py puts the slow files first.
TESTS := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: quickstart test test-fast chaos mutations lint types docs clean

quickstart: $(VENV)/.installed
	$(BIN)/gato-jax quickstart --workdir=$(WORKDIR)

test: $(VENV)/.developing
	$(BIN)/python -m pytest $(TESTS)

test-fast: $(VENV)/.developing
	$(BIN)/python -m pytest $(TESTS) -m 'not slow'

chaos: $(VENV)/.developing
	$(BIN)/python -m tests.gato_jax.chaos --runs=20

# In a copy of the tree; eight CPU minutes.
mutations: $(VENV)/.developing
	$(BIN)/python -m tests.mutations --page=docs/trust.md

lint: types
	$(BIN)/ruff check .

types: $(VENV)/.developing
	$(BIN)/mypy

# The pages, into build/site. The explorer page shows the quickstart's model if there is one, else rows of a tiny mixture.
EXPLORED := experiments/configs/quickstart.py$(if $(wildcard $(WORKDIR)/checkpoints),,:tiny)

docs: $(VENV)/.documenting
	$(BIN)/gato-jax prepare --config=$(EXPLORED)
	$(BIN)/gato-jax illustrate --config=$(EXPLORED) --workdir=$(WORKDIR) --rows=4 --out=build/explorer.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

$(VENV)/.installed: setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[envs]'
	touch $@

$(VENV)/.developing: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[envs,suites,formats,dev]'
	touch $@

$(VENV)/.documenting: $(VENV)/.developing
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[envs,docs]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
