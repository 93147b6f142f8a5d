# `make demo` runs the main job, `make test` passes the tests; each sets up what it needs in .venv.
PYTHON ?= python3
BIN := .venv/bin
.PHONY: demo test lint types unit bench docs clean

.venv/.ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

.venv/.bench-ready: .venv/.ready
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[bench]"
	touch $@

demo: .venv/.ready
	$(BIN)/python -m examples.demo $(if $(KEEP),--keep)

test: lint
	$(MAKE) --jobs=2 types unit

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.ready
	$(BIN)/mypy

unit: .venv/.ready
	$(BIN)/python -m pytest

bench: .venv/.bench-ready
	$(BIN)/python -m bench all

docs: .venv/.ready
	$(BIN)/python -m docs.build

clean:
	rm -rf .venv .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
