# `make demo` runs the main job, `make test` passes the tests; each sets up what it needs in .venv.
PYTHON ?= python3
BIN := .venv/bin
.PHONY: demo test lint types unit unit-edge unit-rest bench docs clean
SHELL := /bin/bash

# The suite runs as two processes, about equally long. Whatever is not in EDGE is in the rest, new folders too.
# Each process searches all that it said itself for leaks. See docs/decisions/0050-two-test-processes.md.
EDGE := tests/edge tests/wire tests/journeys/test_crash_database.py tests/journeys/test_crash_device.py
LEAKS := tests/rules/test_no_secret_leaks.py

# Lines of all parts come as they are written, each behind the name of its part; the exit code is the program's.
part = set -o pipefail; mkdir -p .tests; \
  { $(1); } 2>&1 | tee .tests/$@.log | while IFS= read -r line; do echo "$@: $$line"; done || \
  { mv .tests/$@.log .tests/$@.failed; exit 1; }

.venv/.ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

.venv/.bench-ready: .venv/.ready
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[bench]"
	touch $@

demo: .venv/.ready
	$(BIN)/python -m examples.demo $(if $(KEEP),--keep)

# A part that fails stops no other. Its last lines are said again at the end, where a reader looks first.
test: lint
	@rm -rf .tests
	@$(MAKE) --no-print-directory --jobs=2 --keep-going unit-edge types unit-rest || \
	  { tail -n 40 .tests/*.failed; exit 1; }

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.ready
	@$(call part,$(BIN)/mypy)

unit: unit-edge unit-rest

unit-edge: .venv/.ready
	@$(call part,$(BIN)/python -m pytest $(EDGE) $(LEAKS))

unit-rest: .venv/.ready
	@$(call part,$(BIN)/python -m pytest $(EDGE:%=--ignore=%))

bench: .venv/.bench-ready
	$(BIN)/python -m bench all

docs: .venv/.ready
	$(BIN)/python -m docs.build

clean:
	rm -rf .venv .demo .tests .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
