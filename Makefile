# Securus: `make demo` shows it, `make test` proves it, `make bench` measures it. `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# `make test PYTHON=python3.14`: where another Python is named than the one that .venv is of, .venv is made anew.
ifneq ($(origin PYTHON),file)
OTHER := $(if $(filter-out $(shell $(BIN)/python -VV 2>/dev/null),$(or $(shell $(PYTHON) -VV 2>/dev/null),none)),other)
endif
.DEFAULT_GOAL := help
.PHONY: help setup services demo test conformance lint bench lock clean other

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.runtime: requirements.lock pyproject.toml $(OTHER)
	@PYTHON="$(PYTHON)" sh tests/support/machine.sh python
	@test -z "$(OTHER)" && test -x $(BIN)/python || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.development: requirements-dev.lock $(VENV)/.runtime
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

tests/interop/node_modules/.installed: tests/interop/package-lock.json
	@sh tests/support/machine.sh node
	cd tests/interop && npm ci --silent --no-audit --no-fund
	@touch $@

setup: $(VENV)/.development ## install the locked dependencies into .venv

services: ## install what tests run against (Chromium, nginx, Node, SoftHSM, PostgreSQL, Redis), where root on Debian may
	@sh tests/support/machine.sh services

demo: $(VENV)/.runtime ## start everything with synthetic patients and run one full flow
	$(BIN)/securus demo $(DEMO)

lint: $(VENV)/.development ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(VENV)/.development services ## lint, then every test
	@$(MAKE) --no-print-directory tests/interop/node_modules/.installed || test -z "$(CI)"
	@$(MAKE) --no-print-directory lint
	$(BIN)/pytest -q -n 2 --dist loadgroup

conformance: $(VENV)/.development ## let a running suite of the OpenID Foundation judge the server: SUITE=https://localhost:8443
	@test -n "$(SUITE)" || { echo "SUITE=https://localhost:8443 names a running suite: docs/conformance.md" >&2; exit 2; }
	OPENID_SUITE="$(SUITE)" $(BIN)/pytest -q -n 4 tests/interop/test_openid_suite.py

bench: $(VENV)/.development ## measure, beside nginx and peers, in one run; writes bench.json and bench.svg
	@BENCH=1 sh tests/support/machine.sh services
	@$(MAKE) --no-print-directory tests/interop/node_modules/.installed
	$(BIN)/python -m tests.bench $(BENCH_OPTIONS)

lock: ## resolve the dependencies again and write the lock files
	$(PYTHON) -m venv $(VENV)/lock && $(VENV)/lock/bin/pip install -q pip-tools
	for out in "requirements.lock --extra build" "requirements-dev.lock --extra build --extra dev"; do \
	  CUSTOM_COMPILE_COMMAND="make lock" $(VENV)/lock/bin/pip-compile -q --generate-hashes --no-emit-index-url \
	    --no-emit-trusted-host --no-emit-find-links --strip-extras --allow-unsafe pyproject.toml --output-file=$$out; done

clean: ## remove what the other targets made
	rm -rf $(VENV) .demo tests/interop/node_modules bench.json bench.svg
