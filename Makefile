# Two commands matter: `make reproduce` and `make test`. Both set themselves up; both are quick when repeated.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OUT ?= runs/tiny
WORKERS ?= 2

.PHONY: help setup reproduce test test-slow test-transformers lint format clean

help:
	@echo "make reproduce   set up, then run the whole life of the model in miniature (OUT=$(OUT))"
	@echo "make test        set up, then lint, type-check and run the tests"
	@echo "make setup       only set up $(VENV)"
	@echo "make lint        ruff, mypy, mlinter"
	@echo "make test-slow   the tests that take minutes"
	@echo "make test-transformers   transformers' own model tests, fetched by pip, on this model (SOURCE=CHECKOUT of the same release: generation too)"
	@echo "make format      let ruff rewrite the sources"
	@echo "make clean       remove $(VENV) and caches (never runs/)"

setup: $(STAMP)

# torch goes in first and pinned: an unpinned torch pulls gigabytes of CUDA packages onto CPU machines.
$(STAMP): pyproject.toml constraints.txt
	@echo "== setting up $(VENV) with $$($(PYTHON) --version) (a few minutes the first time) =="
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "== installing torch (pinned, CPU wheel where one is at hand) =="
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	@echo "== installing yulanmini and what it needs =="
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,eval,cluster,serve]"
	@touch $(STAMP)
	@echo "== ready: $(BIN)/yulanmini --help =="

reproduce: setup
	@echo "== the whole life of the model in miniature, on CPU, offline -> $(OUT)/report.html =="
	@$(BIN)/yulanmini reproduce --scale tiny --out $(OUT)

lint: setup
	@echo "== ruff =="
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@echo "== mypy =="
	@$(BIN)/mypy
	@echo "== mlinter =="
	@$(BIN)/mlinter modeling_yulanmini/configuration_yulanmini.py modeling_yulanmini/modeling_yulanmini.py

test: lint
	@echo "== pytest, on $(WORKERS) workers =="
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

test-slow: setup
	@$(BIN)/python -m pytest -m slow

test-transformers: setup
	@$(BIN)/python tests/transformers_suite/run_suite.py $(if $(SOURCE),--source $(SOURCE))

format: setup
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache build dist *.egg-info
