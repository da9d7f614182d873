# Two commands are enough: `make demo` and `make test`. Both do all the set-up they need.
# TRIPTYCH_VENV names a virtual environment to share between checkouts.

TRIPTYCH_VENV ?= .venv
PYTHON ?= python3
BIN := $(abspath $(TRIPTYCH_VENV))/bin
# One more than cores: tests wait a good deal. Each takes up to 2 GB.
WORKERS ?= $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$(( cores < 7 ? cores + 1 : 8 )))
STAMP := $(abspath $(TRIPTYCH_VENV))/.triptych-installed

# DeepSpeed compiles one op at its first start (about a minute); kept with the environment.
export TORCH_EXTENSIONS_DIR ?= $(abspath $(TRIPTYCH_VENV))/torch_extensions
export PATH := $(BIN):$(PATH)

.PHONY: demo test drill cluster-drill lint install
.DEFAULT_GOAL := help

help:
	@echo "make demo           raw corpus -> shards -> pretraining -> probes -> published backbone, and a report"
	@echo "make test           linters and the whole test suite"
	@echo "make drill          all that a run must survive, and the oracle on four ranks (tens of minutes)"
	@echo "make cluster-drill  the same on a real Slurm of three nodes on this host (seventeen minutes)"
	@echo "make lint           linters alone"

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(TRIPTYCH_VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@echo "first start of DeepSpeed: compiling one communication op (about a minute)"
	$(BIN)/python -m launch.warm_up
	touch $@

install: $(STAMP)
	@# The environment may be shared: `triptych` in it is always this checkout.
	@$(BIN)/python -P -c "import launch, pathlib, sys; sys.exit(not pathlib.Path(launch.__file__).is_relative_to(pathlib.Path.cwd()))" 2>/dev/null \
		|| $(BIN)/python -m pip install --quiet --no-deps --editable .

demo: install
	$(BIN)/triptych demo

test: lint
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

drill: install
	$(BIN)/python -m pytest -m drill
	$(BIN)/python benchmarks/drill.py --check

cluster-drill: install
	$(BIN)/python benchmarks/cluster_drill.py --check

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
