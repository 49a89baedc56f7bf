# Everything a developer or CI does here. `make` alone prints what there is.
# Every target works from a bare clone: it makes .venv and fills the tool cache first. A second run needs no network.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
# fixtures/ is judged, not linted; these two files there are ours.
SCRIPTS := fixtures/compose.py fixtures/demo.py
# An absolute path: `make bench` and the tests start it from other folders.
export PATH := $(abspath $(BIN)):$(PATH)
# The tool cache is per user, not per clone, so its stamp names the cache it is about: another HOME fills another cache.
CACHE := $(or $(RELEASEGATE_TOOLS),$(XDG_CACHE_HOME),$(HOME))
TOOLS := $(VENV)/.tools-$(shell printf %s '$(CACHE)' | cksum | cut -d ' ' -f 1)
HELM_3 := $(TOOLS)-helm-3

.PHONY: help setup demo test lint types bench schemas docs lock clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## make .venv with the locked environment and fill the tool cache
	$(BIN)/releasegate tools install
	$(BIN)/releasegate tools install helm@3.18.4
	@touch $(TOOLS) $(HELM_3)

demo: $(TOOLS) ## judge fixtures/repos/shop and its broken twin, show both verdicts
	@$(BIN)/python fixtures/demo.py

# ARGS hands arguments to pytest: make test ARGS='tests/unit -k yaml'
test: $(TOOLS) $(VENV)/.kubeconform $(HELM_3) ## run all tests
	$(BIN)/pytest -n auto --dist worksteal $(ARGS)

lint: $(VENV)/.installed ## ruff: rules and format
	$(BIN)/ruff check . $(SCRIPTS)
	$(BIN)/ruff format --check . $(SCRIPTS)

types: $(VENV)/.installed ## mypy --strict
	$(BIN)/mypy
	$(BIN)/mypy tests benchmarks scripts/*.py $(SCRIPTS)

# REPO=dir measures that folder too: make bench REPO=../govuk-helm-charts
bench: $(TOOLS) $(VENV)/.kubeconform ## releasegate against what people write (benchmarks/pipeline.sh)
	$(BIN)/python benchmarks/bench.py $(if $(REPO),--repo '$(REPO)') $(ARGS)

# OPENAPI is a folder of OpenAPI v3 documents, one sub-folder per Kubernetes version.
OPENAPI ?= ../shared/data/openapi
schemas: $(VENV)/.installed ## make the schema bundles that ship with the package from OpenAPI v3
	$(BIN)/python -m releasegate.schemas.bundle $(OPENAPI)

docs: $(VENV)/.installed ## write the pages that are made from code (docs/rules.md)
	$(BIN)/python scripts/rule_pages.py

lock: ## resolve requirements-dev.lock again (UV=path/to/uv, ARGS=--upgrade)
	scripts/lock $(ARGS)

clean: ## remove .venv and all that the targets above made here; the tool cache stays
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .releasegate
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed: requirements-dev.lock pyproject.toml scripts/bootstrap
	VENV='$(VENV)' PYTHON='$(PYTHON)' scripts/bootstrap
	@touch $@

$(TOOLS): $(VENV)/.installed $(wildcard validators/releasegate/tools/tools.lock.toml)
	$(BIN)/releasegate tools install
	@touch $@

# The Helm of Argo CD 3.1 and 3.2, which a config may ask for: the tests render with it too. Where no archive can be had it
# is built, which shares little with Helm 4: three minutes on two cores.
$(HELM_3): $(TOOLS)
	$(BIN)/releasegate tools install helm@3.18.4
	@touch $@

# The other side of the benchmark and of the parity tests, never a part of releasegate. Go: on PATH, else the one that `tools install` used.
KUBECONFORM := github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0
FIND_GO := from releasegate.tools import store; print(*store.cache_folder().glob("go/*/go/bin/go"))
$(VENV)/.kubeconform: $(TOOLS)
	go=$$(command -v go || $(BIN)/python -c '$(FIND_GO)'); GOBIN='$(abspath $(BIN))' "$$go" install $(KUBECONFORM)
	@touch $@
