# One command for each thing one does here. `make` lists them.
# Needed beforehand: Python 3.11 or newer with venv, and make. Everything else comes from the package registry,
# locked by hash in requirements/*.txt.

MAKEFLAGS += --no-builtin-rules --no-print-directory
SHELL     := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

# The first Python on this machine that is new enough; `make PYTHON=/path/to/python3 run` names another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps
LOCK    = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate
UV     ?= uv
CONFIG ?= config.example.toml
# Of `make fuzz`: minutes for all targets together, and how many targets run at a time.
MINUTES ?= 30
JOBS    ?= 1
PYTEST  = $(BIN)/python -m pytest
ARGS   ?=
# How many processes `make test` runs its tests in; with few tests, or a debugger, TEST_JOBS=0 runs them in one.
TEST_JOBS ?= auto

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev run test pytest check format soak bench fuzz interop golden-update lock clean

help:                     ## List the commands.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(VENV)/.installed ## Create .venv; install the locked dependencies and the package.

setup-dev: $(VENV)/.installed-dev ## The same, with what tests and checks need.

run: setup                ## Run relay, tracking host, console and metrics on loopback.
	@exec $(BIN)/mailwake serve --config $(CONFIG)

test: check pytest        ## Check, then run every test. ARGS="-k name" narrows it.

pytest: setup-dev
	@$(PYTEST) --numprocesses $(TEST_JOBS) --maxprocesses 8 --dist worksteal $(ARGS)

check: setup-dev          ## Lint, format, types and floors.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: setup-dev         ## Format the code and mend what the linter can.
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

soak: setup-dev           ## Durability claims and properties with full counts; writes bench/results/soak-*.json.
	@MAILWAKE_SOAK=1 HYPOTHESIS_PROFILE=soak $(PYTEST) -m "soak or hypothesis" $(ARGS)

bench: setup-dev          ## Every bench, one after the other; each writes bench/results/NAME.json.
	@for file in bench/[a-z]*.py; do \
		name=$${file#bench/}; echo "== $$name"; $(BIN)/python -m "bench.$${name%.py}"; done

fuzz: $(VENV)/.installed-fuzz ## Search for input that breaks a law, MINUTES=30 in all; writes bench/results/fuzz.json.
	@$(BIN)/python -m fuzz --minutes $(MINUTES) --jobs $(JOBS) $(ARGS)

interop: setup-dev        ## Real mail programs before and behind the relay; writes docs/reference/interop.md. Wants root.
	@$(BIN)/python -m tests.interop.tools
	@$(BIN)/python -m tests.interop --write $(ARGS)

golden-update: setup-dev  ## Write the golden files anew. Read the diff before you commit it.
	@MAILWAKE_GOLDEN_UPDATE=1 $(PYTEST) tests/unit -k golden $(ARGS)
	@git --no-pager diff --stat -- tests/unit/golden

lock:                     ## Lock the dependencies again (needs uv). UPGRADE=--upgrade takes newer versions.
	$(LOCK) $(UPGRADE) requirements/build.in --output-file requirements/build.txt
	$(LOCK) $(UPGRADE) pyproject.toml --output-file requirements/runtime.txt
	$(LOCK) $(UPGRADE) requirements/dev.in --output-file requirements/dev.txt
	$(LOCK) $(UPGRADE) requirements/fuzz.in --output-file requirements/fuzz.txt

clean:                    ## Remove what these commands made, except .venv and var.
	rm -rf dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage

# --- stamps: nothing below runs again until what it depends on changes -------------------------------------

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "Mailwake needs Python 3.11 or newer; found: $$(python3 --version 2>&1 || echo none)." >&2; \
		echo "Install one, or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Mailwake needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) has no venv module. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

# --no-deps: the locks name everything, with its hash; there is nothing to resolve.
# The package itself is installed editable: what is run and tested is this folder. The acceptance tests build and
# install the wheel. --no-build-isolation: the build tool comes from build.txt, by hash, like everything else.
$(VENV)/.installed: requirements/build.txt requirements/runtime.txt pyproject.toml | $(BIN)/python
	@echo "Installing the locked dependencies"
	@$(PIP) --require-hashes -r requirements/build.txt -r requirements/runtime.txt
	@$(PIP) --no-build-isolation --no-index --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements/dev.txt
	@echo "Installing what tests and checks need"
	@$(PIP) --require-hashes -r requirements/dev.txt
	@touch $@

# --only-binary: without a wheel pip would try to build an engine, and a compiler's error tells nobody what to do.
$(VENV)/.installed-fuzz: $(VENV)/.installed-dev requirements/fuzz.txt
	@echo "Installing the fuzzing engine"
	@$(PIP) --only-binary :all: --require-hashes -r requirements/fuzz.txt || { \
		echo "Atheris, the fuzzing engine, has wheels for Linux on x86_64 and CPython 3.11 to 3.13 alone; this is" \
			"$$(uname -sm), $$($(BIN)/python --version)." >&2; \
		echo "Elsewhere \`make test\` still runs every target over its seeds and over all that was ever found." >&2; \
		exit 1; }
	@touch $@
