# One word a command. Every command sets up .venv first; with nothing to do that takes no time.
PY := .venv/bin/python
# Benchmarks that need neither data nor arguments; the others want trained models.
BENCHMARKS := dense_heads.py iou.py kitti_evaluation.py memory.py operators.py pooling.py refinement.py simulation.py training_methods.py

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format bench

help:
	@echo "make setup   environment in .venv (first time: compiles mmcv, about 15 minutes on 2 cores)"
	@echo "make demo    simulate, train, refine, evaluate, draw: work_dirs/demo (10 minutes on 2 cores)"
	@echo "make test    all tests"
	@echo "make lint    ruff, types, import contracts, spelling"
	@echo "make format  let ruff rewrite what it can"
	@echo "make bench   the benchmarks that need neither data nor training"

setup:
	@tools/setup.sh

demo: setup
	@$(PY) tools/demo.py

test: setup
	@$(PY) -m pytest

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports
	.venv/bin/codespell

format: setup
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: setup
	@set -e; for name in $(BENCHMARKS); do echo "== $$name"; $(PY) tools/benchmarks/$$name; done
	@echo "Not run, as they need trained models (--help says which):"
	@echo "  tools/benchmarks/before_after.py         tabulates runs of tools/test.py --json"
	@echo "  tools/benchmarks/compare_regressions.py  trains and compares second stages, for hours"
	@echo "  tools/benchmarks/compare_inference.py    ways to infer boxes from the energies it trained"
	@echo "Not run, as it trains models for half an hour (--work-dir keeps them):"
	@echo "  tools/benchmarks/regression_1d.py        every training method on a known density"
