# Each command does everything, set-up included.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKDIR ?= runs/quickstart
# A file's tests stay in one process, which makes its fixtures once; tests/conftest.py puts the slow files first.
TESTS := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: quickstart test test-fast readme chaos soak mutations lint types docs clean

quickstart: $(VENV)/.installed
	$(BIN)/gato-jax quickstart --workdir=$(WORKDIR)

test: $(VENV)/.developing
	$(BIN)/python -m pytest $(TESTS)

test-fast: $(VENV)/.developing
	$(BIN)/python -m pytest $(TESTS) -m 'not slow'

# What README.md says, done on small data.
readme: $(VENV)/.developing
	rm -rf build/readme
	mkdir -p build/readme
	XLA_FLAGS='--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0' \
	  $(BIN)/python -m tests.readme build/readme

chaos: $(VENV)/.developing
	$(BIN)/python -m tests.gato_jax.chaos --runs=20

# An hour and a half of two cores, after `gato-jax prepare` with the same config.
soak: $(VENV)/.developing
	$(BIN)/python -m tests.gato_jax.soak --config=experiments/configs/local_agent.py --workdir=runs/soak \
	  --config.evaluation.every=3000 --config.evaluation.episodes=2

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
	$(BIN)/python -m pytest -q tests/site_in_browser.py

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
