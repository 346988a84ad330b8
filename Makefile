# make demo | make test | make test-all | make bench-gpu | make lint; each sets itself up first, which is quick when
# nothing changed. Without an NVIDIA GPU, setting PIP_EXTRA_INDEX_URL to PyTorch's index of CPU builds
# saves a large download.

PYTHON ?= $(shell for python in python3 python3.12 python3.11 python3.13; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
STAMP := .venv/.autopeft-ready

.PHONY: setup demo lint test test-all bench-gpu faults

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed; name one with make PYTHON=..." >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[demo,dev,ray,postgres,quant]"
	@touch $(STAMP)

demo: setup
	$(BIN)/autopeft search studies/agreement-minilm/study.yaml --study studies/demo --budget 24trials,8m

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Exit code 5 of pytest: no test was chosen.
test: lint
	$(BIN)/python -m pytest -m "not slow"

test-all: setup
	$(BIN)/python -m pytest -m slow || test $$? -eq 5

# On a machine with a CUDA device, without a network once it is set up: the tests that need one and all tables that do.
bench-gpu: setup
	$(BIN)/python benchmarks/gpu.py

# Breaks searches in every way that is promised to be harmless and writes tests/faults/README.md; needs root and a C compiler.
faults: setup
	PYTHONPATH=.:kernels:searchspace:tests $(BIN)/python tests/faults/table.py
