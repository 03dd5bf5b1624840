# One command each: `make repro` sets up and runs the pipeline, `make test` the tests, `make benchmark` the grid.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SEEDS ?= 1 2

export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: repro seeds experiments rivals benchmark test lint format setup clean

repro: $(READY)
	@$(BIN)/python -m stages.unlock
	$(BIN)/dvc repro
	@$(BIN)/python -m stages.costs
	@$(BIN)/dvc repro --quiet --single-item report
	@$(BIN)/python -m stages.summary

# How far do trainings lie apart? After `make repro`, and as long again for each of SEEDS.
seeds: $(READY)
	$(BIN)/python -m stages.seeds $(SEEDS)
	@$(BIN)/dvc repro --quiet --single-item report

# What was changed in DVC's experiments, and a dozen metrics.
experiments: $(READY)
	@$(BIN)/dvc exp show --only-changed --param-deps --drop '.*/.*|.*csv|tasks.*'

# All that the benchmark is to have; days of a core. A part of it: `make benchmark ARGS="--tasks walker-walk --seeds 0 1 2"`.
benchmark: $(READY)
	$(BIN)/python -m benchmarks.grid $(ARGS)
	$(BIN)/python -m benchmarks.table
	$(BIN)/python -m benchmarks.rivals

# The main pipeline as well, as far as it is not up to date.
rivals: $(READY)
	@$(BIN)/python -m stages.unlock
	$(BIN)/dvc repro rivals/dvc.yaml
	@$(BIN)/python -m stages.costs
	@$(BIN)/dvc repro --quiet --single-item rivals/dvc.yaml:report_rivals

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder --durations 20

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m stages.dependencies --check

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python -m stages.dependencies

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Telepath needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .telepath
