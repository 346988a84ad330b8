# make demo | make test | make test-all; each sets itself up first.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.autopeft-ready

.PHONY: setup demo test test-all lint
setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[demo,dev]"
	touch $(STAMP)

demo: setup
	$(BIN)/autopeft search studies/agreement-minilm/study.yaml --study studies/demo --budget 24trials,8m

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -m "not slow"

test-all: setup
	$(BIN)/python -m pytest -m slow
