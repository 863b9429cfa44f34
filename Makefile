# make test | lint | demo | bench: everything runs in .venv, made on first use from pyproject.toml and the pins.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
PINS := pyproject.toml constraints.txt requirements-reference.txt
# Keyed on the contents, so that a checkout that only touches the files installs nothing again.
READY := $(VENV)/ready-$(shell cat $(PINS) | cksum | tr ' ' '-')
SOURCES := adapters benchmarks cli engine models tests demo.py errors.py face.py __init__.py
FUZZ_SECONDS ?= 300
BENCHMARKS := ascent explain activations

.DEFAULT_GOAL := help
QUICK := tests/golden tests/docs tests/cli/test_architecture.py tests/engine/compare/test_causes.py \
	tests/engine/compare/test_permutation.py tests/engine/ascent tests/engine/attribution/test_maths.py \
	tests/engine/test_images.py tests/adapters/test_table.py tests/adapters/test_normalize.py

.PHONY: help test quick lint demo docs bench fuzz clean

help:
	@echo "make test    lint, types and tests"
	@echo "make quick   ruff and the tests that say most in little time"
	@echo "make lint    ruff and mypy alone"
	@echo "make demo    classes, filters, a dream and an atlas of EfficientNet-Lite0; prints the page to open"
	@echo "make docs    the API reference, from the docstrings: docs/reference/convscope.html"
	@echo "make bench   the benchmarks against the neighbouring tools (long)"
	@echo "make fuzz    coverage-guided fuzzing, five minutes for each reader of files (FUZZ_SECONDS=300)"
	@echo "make clean   remove .venv and what the tools left"

$(READY): $(PINS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "convscope needs Python 3.11 or newer: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]' 'setuptools>=77'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-reference.txt
	rm -f $(VENV)/ready-*
	touch $@

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(SOURCES)

# One file of tests stays in one process, since its tests share what they load; one thread each, else they fight for the cores.
test: lint
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist loadfile

# The lane for between two edits: no types, and the tests that say most in little time.
quick: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pytest -m 'not slow' $(QUICK)

demo: $(READY)
	$(BIN)/python -P -m convscope.demo

# What users import, and nothing of the rooms behind it.
docs: $(READY)
	$(BIN)/python -m pdoc --docformat google --output-directory docs/reference \
		convscope $(foreach room,adapters benchmarks cli engine face models tests,'!convscope.$(room)')
	@echo docs/reference/convscope.html

bench: $(READY)
	@for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name || exit 1; done

fuzz: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	$(BIN)/python -m benchmarks.fuzz --seconds $(FUZZ_SECONDS)

clean:
	rm -rf $(VENV) docs/reference .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
