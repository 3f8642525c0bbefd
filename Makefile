# `make` or `make help` lists the targets. ARGS is passed on: `make test ARGS='-k wallet -x'`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
REQUIREMENTS_READY := .venv/.requirements-ready
PROJECT_READY := .venv/.project-ready
TYPES_CHECKED := .venv/.types-checked
MEASURED := models activities workflows api cli worker
COMPILE := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-annotate --quiet --custom-compile-command 'make requirements'
ARGS ?=

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(PROJECT_READY) ## Make .venv with the pinned requirements (done by every target that needs it)

.PHONY: run
run: $(PROJECT_READY) ## Start everything and do the main job; ARGS=--exit stops afterwards
	@$(BIN)/switchyard demo $(ARGS)

.PHONY: test
test: $(PROJECT_READY) ## Run the tests with coverage
	@$(BIN)/python -m pytest $(MEASURED:%=--cov=%) --cov-report=term:skip-covered $(ARGS)

.PHONY: lint
lint: $(PROJECT_READY) ## Style, format, types and layers
	@$(MAKE) --jobs=4 --output-sync=target --keep-going lint-style lint-format lint-types lint-layers

.PHONY: lint-style lint-format lint-types lint-layers
lint-style:
	@$(BIN)/ruff check --quiet
lint-format:
	@$(BIN)/ruff format --check --quiet || { echo "The files above are not formatted; run: make format"; exit 1; }
lint-types: $(TYPES_CHECKED)
lint-layers:
	@$(BIN)/lint-imports --no-cache

.PHONY: format
format: $(PROJECT_READY) ## Format the code and put imports in order
	@$(BIN)/ruff check --quiet --fix-only --select I
	@$(BIN)/ruff format

.PHONY: hooks
hooks: ## Lint before each commit (git hook of this clone)
	@git config core.hooksPath .githooks

.PHONY: bench
bench: $(PROJECT_READY) ## Measure side by side; see bench/
	@$(BIN)/python -m bench $(ARGS)

.PHONY: chaos
chaos: $(PROJECT_READY) ## Kill parts at random while work runs, then check that the books balance
	@$(BIN)/python -m bench.chaos $(ARGS)
	@$(BIN)/python -m bench.payment_chaos $(PAYMENT_ARGS)
	@$(BIN)/python -m bench.event_chaos $(EVENT_ARGS)

.PHONY: conformance
conformance: $(PROJECT_READY) ## Run a corpus of BPMN and FEEL cases: make conformance CORPUS=folder
	@$(BIN)/python -m tests.conformance.run $(CORPUS) $(ARGS)

.PHONY: fuzz
fuzz: $(PROJECT_READY) ## Throw random input at the engines for ten minutes; ARGS=--minutes=1 for less
	@$(BIN)/python -m tests.fuzz.campaign $(ARGS)

.PHONY: docs
docs: $(PROJECT_READY) ## Regenerate the tables that are made from code
	@$(BIN)/python -m cli.stack.settings_page

.PHONY: requirements
requirements: ## Pin requirements.txt anew after a change of pyproject.toml
	@command -v uv >/dev/null || { echo "Pinning needs uv (pip install uv)"; exit 1; }
	@$(COMPILE) --all-extras requirements-build.in --output-file requirements.txt $(ARGS)
	@$(COMPILE) --constraint requirements.txt requirements-server.in --output-file requirements-server.txt

# The checker reads the whole tree every time, which takes long; nothing changed means nothing to check.
# Folders are among the sources so that a removed file counts as a change.
$(TYPES_CHECKED): $(PROJECT_READY) $(shell find $(MEASURED:worker=worker.py) tests bench migrations -mindepth 1 \
    -name __pycache__ -prune -o \( -name '*.py' -o -type d \) -print 2>/dev/null)
	@$(BIN)/basedpyright --level warning
	@touch $@

.PHONY: clean
clean: ## Remove what was built; data in .switchyard stays
	@rm -rf .venv build dist *.egg-info .ruff_cache .import_linter_cache .hypothesis .coverage .pytest_cache
	@find . -name __pycache__ -type d -not -path './.switchyard/*' -prune -exec rm -rf {} +

$(REQUIREMENTS_READY): requirements.txt deploy/make-venv
	@deploy/make-venv .venv requirements.txt
	@touch $@

$(PROJECT_READY): $(REQUIREMENTS_READY) pyproject.toml
	@deploy/install-project .venv
	@touch $@
