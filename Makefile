# Everything a developer does, by name. `make` alone lists it.
#
# `make setup` needs Python 3.11–3.14, and a network the first time. It takes uv where that is installed (about a minute),
# pip otherwise (a few minutes). Every other target runs it first; a second time it only compares three time stamps.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# One test process a core, at most 8: each imports torch (4 s, 0.4 GB), so more of them cost more than they bring.
JOBS ?= $(shell cores=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$((cores < 8 ? cores : 8)))

.PHONY: help setup demo test test-all check docs format bench lock

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1: /p' $(MAKEFILE_LIST) | awk -F': ' '{ printf "make %-9s %s\n", $$1, $$2 }'

setup: $(STAMP)  ## .venv with the locked packages and trainwright itself (editable)

demo: setup  ## the whole way on handwritten digits, without a network
	$(BIN)/trainwright demo

test: setup  ## the tests that take less than a few seconds each, on all cores
	$(BIN)/pytest -n $(JOBS) --dist worksteal -m "not slow"

test-all: setup  ## every test, the slow ones too
	$(BIN)/pytest -n $(JOBS) --dist worksteal

check: setup  ## format, lint, types, and who imports whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup  ## the documentation as a site, in site/, without a network; a link that leads nowhere ends it
	$(BIN)/python tools/site_of_docs.py

format: setup  ## write the code the way `make check` wants it
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup  ## every benchmark in turn; one at a time, or they measure each other
	@shopt -s nullglob; for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python "$$file"; done

lock:  ## requirements.lock anew; UPGRADE=1 takes the newest versions in range
	@uv=$$(command -v uv || true); \
	if [[ -z $$uv ]]; then \
	  place=$$(mktemp -d); trap 'rm -rf "$$place"' EXIT; \
	  $(PYTHON) -m venv "$$place"; "$$place/bin/pip" install --quiet uv; uv="$$place/bin/uv"; \
	fi; \
	"$$uv" pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-annotate --no-header $(if $(UPGRADE),--upgrade) \
	  --quiet -o requirements.lock

# The package is installed without build isolation, so that its build backend comes from the lock and not from the network.
$(STAMP): requirements.lock pyproject.toml
	@if [[ ! -x $(BIN)/python ]]; then \
	  found=""; \
	  for python in "$(PYTHON)" python3.14 python3.13 python3.12 python3.11; do \
	    if "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; \
	    then found="$$python"; break; fi; \
	  done; \
	  if [[ -z $$found ]]; then \
	    echo "make setup: needs Python 3.11, 3.12, 3.13 or 3.14, got: $$("$(PYTHON)" --version 2>&1 || true)." >&2; \
	    echo "Install one of them, or name it: make setup PYTHON=/path/to/python3.12" >&2; exit 1; \
	  fi; \
	  "$$found" -m venv $$(if command -v uv >/dev/null; then echo --without-pip; fi) $(VENV) || { rm -rf $(VENV); \
	    echo "make setup: $$found cannot make a virtual environment. On Debian or Ubuntu: apt install python3-venv" >&2; \
	    exit 1; }; \
	fi
	@if command -v uv >/dev/null; then \
	  uv pip install --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock; \
	  uv pip install --python $(BIN)/python --quiet --no-deps --no-build-isolation -e .; \
	else \
	  $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null; \
	  $(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements.lock; \
	  $(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .; \
	fi
	@touch $(STAMP)
