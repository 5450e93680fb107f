# One word a command. Every command sets up .venv first; with nothing to do that takes no time.
PY := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format bench

help:
	@echo "make setup   environment in .venv (first time: compiles mmcv, about 15 minutes on 2 cores)"
	@echo "make demo    simulate, train, refine, evaluate, draw: work_dirs/demo (10 minutes on 2 cores)"
	@echo "make test    all tests"
	@echo "make lint    ruff, types, import contracts, spelling"
	@echo "make format  let ruff rewrite what it can"
	@echo "make bench   every benchmark of tools/benchmarks"

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
	@set -e; for script in tools/benchmarks/[a-z]*.py; do echo "== $$script"; $(PY) $$script; done
