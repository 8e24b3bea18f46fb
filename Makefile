# Needs make and Python >= 3.11 (PYTHON=python3.12 chooses another one); everything else goes into .venv.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help .venv demo test check bench serve format clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
PYTEST_ARGS ?=
SERVE_ARGS ?=

help: ## this list
	@awk -F ':.*## ' '/^[a-z.]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.venv: $(STAMP) ## create .venv and install archsmith into it

# The stamp is as new as the two files that say what is installed, so an up-to-date .venv costs nothing.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "archsmith needs Python >= 3.11, and '$(PYTHON)' is not that; name another one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "'$(PYTHON)' cannot create virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP) ## the whole job on handwritten digits, with progress; results in runs/
	@$(BIN)/python examples/demo.py

# Two processes, a file at a time: some tests measure, and more would measure each other.
test: $(STAMP) ## the whole test suite; choose with PYTEST_ARGS='-k pool'
	@$(BIN)/pytest -n 2 --dist loadfile $(PYTEST_ARGS)

check: $(STAMP) ## format, lint, types, import floors, size limits, documents
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/pytest --quiet -m 'not slow' tests/test_floors.py tests/test_docs.py

bench: $(STAMP) ## every benchmark, quick settings; one JSON line each
	@for script in benchmarks/*.py; do \
	  if grep -q -e '"--quick"' "$$script"; then $(BIN)/python "$$script" --quick; else $(BIN)/python "$$script"; fi; \
	done

serve: $(STAMP) ## the service and its dashboard on the embedded store
	@$(BIN)/archsmith serve $(SERVE_ARGS)

format: $(STAMP) ## format and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove caches and builds; .venv and runs/ stay
	rm -rf build dist archsmith.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
