# Two commands do everything, set-up included: `make quickstart` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKDIR ?= runs/quickstart
# A file's tests stay in one process, which makes its fixtures once; tests/conftest.py puts the slow files first.
TESTS := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: quickstart test test-fast chaos lint clean

quickstart: $(VENV)/.installed
	$(BIN)/gato-jax quickstart --workdir=$(WORKDIR)

test: $(VENV)/.developing
	$(BIN)/python -m pytest $(TESTS)

test-fast: $(VENV)/.developing
	$(BIN)/python -m pytest $(TESTS) -m 'not slow'

chaos: $(VENV)/.developing
	$(BIN)/python -m tests.gato_jax.chaos --runs=20

lint: $(VENV)/.developing
	$(BIN)/ruff check .

$(VENV)/.installed: setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[envs]'
	touch $@

$(VENV)/.developing: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[envs,suites,formats,dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
