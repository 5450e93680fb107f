# One word a command. Every command sets up .venv first; with nothing to do that takes no time.
PY := .venv/bin/python
# The newest versions that all supported Pythons can have; pins that are there stay, unless removed.
COMPILE := .venv/bin/uv pip compile --quiet --universal --python-version 3.10 --no-annotate
# Benchmarks that need neither data nor arguments; the others want trained models.
BENCHMARKS := coverage.py dense_heads.py iou.py kitti_evaluation.py memory.py operators.py pooling.py refinement.py simulation.py training_methods.py

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format bench lock lint-tools

help:
	@echo "make setup   environment in .venv, for the GPU if there is one (2 to 3 minutes on 2 cores);"
	@echo "             DEVICE=cpu or DEVICE=cuda, and PYTHON=python3.12, decide by hand"
	@echo "make demo    simulate, train, refine, evaluate, draw: work_dirs/demo (10 minutes on 2 cores)"
	@echo "make test    all tests"
	@echo "make lint    ruff, types, import contracts, spelling"
	@echo "make format  let ruff rewrite what it can"
	@echo "make bench   the benchmarks that need neither data nor training"
	@echo "make lock    exact pins in requirements/ from the dependencies in pyproject.toml"

setup:
	@tools/setup.sh

demo: setup
	@$(PY) tools/demo.py

test: setup
	@$(PY) -m pytest --numprocesses 2 --dist loadfile

lint-tools: setup
	@cmp -s requirements/lint.txt .venv/.ebm3d-lint || { \
	  $(PY) -m pip install --quiet --quiet --no-deps --only-binary :all: -r requirements/lint.txt \
	  && cp requirements/lint.txt .venv/.ebm3d-lint; }

lint: lint-tools
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports
	.venv/bin/codespell

format: lint-tools
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: setup
	@set -e; for name in $(BENCHMARKS); do echo "== $$name"; $(PY) tools/benchmarks/$$name; done
	@echo "Not run, as they need trained models (--help says which):"
	@echo "  tools/benchmarks/before_after.py         tabulates runs of tools/test.py --json"
	@echo "  tools/benchmarks/compare_heads.py        trains and compares heads on one detector, for hours"
	@echo "  tools/benchmarks/energy_nll.py           NLL of f, normalized by samples"
	@echo "  tools/benchmarks/refinement_nuscenes.py  needs simulated drives or nuScenes"
	@echo "Not run, as it trains models for hours (--methods and --models for less):"
	@echo "  tools/benchmarks/regression_1d           every training method on a known density"
	@echo "Not run, as it measures a GPU (a minute; --device cpu tries it without one):"
	@echo "  tools/benchmarks/gpu.py                  figures against the CPU's, time, launches, waits"

lock: lint-tools
	$(COMPILE) pyproject.toml --extra cpu --extra visualization --group test --output-file requirements/cpu.txt
	$(COMPILE) pyproject.toml --extra cuda --extra visualization --group test --output-file requirements/cuda.txt \
	  --constraints requirements/cpu.txt
	$(COMPILE) --group lint --output-file requirements/lint.txt --constraints requirements/cpu.txt
	@tools/setup.sh
