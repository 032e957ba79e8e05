# All work on this project, from a fresh clone: `make` lists it. Needs python3 (3.11 or newer) and make.

PYTHON ?= python3
UV ?= uv
ARGS ?=
# Tests run in so many processes, those of one file, which share servers and may build on each other, in one of them.
# Much of the time is spent waiting for servers: four keep two cores busy. The longest files begin.
WORKERS ?= 4
BIN := .venv/bin
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Installs, and says every 5 s what is being done; all that was said is shown where it fails.
define install
$(PIP) install --progress-bar off --require-virtualenv $(1) >.venv/install.log 2>&1 & pip=$$!; \
	trap 'kill $$pip; exit 130' INT TERM; seconds=0; \
	while kill -0 $$pip 2>/dev/null; do \
		sleep 1; seconds=$$((seconds + 1)); \
		[ $$((seconds % 5)) -ne 0 ] || printf '  %3d s  %s\n' $$seconds "$$(tail -n 1 .venv/install.log | cut -c 1-90)"; \
	done; \
	wait $$pip || { cat .venv/install.log; exit 1; }
endef
PROTO := proto/koupleless
# Packages are installed, and built where there is no wheel, only with what the locks pin: pip and setuptools included.
# protoc finds its plugins, and the supervisor its programs, on PATH.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help quickstart smoke test check unit integration soak fuzz compat proto proto-check docs lock test-servers bench clean distclean

help: ## list what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  make %-14s %s\n' "$$name" "$$text"; done

quickstart: .venv/.runtime ## run everything on this machine, on the embedded cluster with simulated bases
	@$(BIN)/module-controller quickstart $(ARGS)

smoke: .venv/.runtime ## the quick start without a person: install a module, see it run, remove it; one line, exit code
	@$(BIN)/module-controller smoke $(ARGS)

test: .venv/.dev check ## check, get the servers that this machine allows, run all tests
	@echo "servers for the tests (got once, then kept in the user's cache; a build takes 20 minutes and needs Go):"
	@$(BIN)/python -m tests.servers fetch || true
	@$(PYTEST) tests/soak tests/security tests/integration tests/contract tests/fuzz tests/unit $(ARGS)

check: .venv/.dev proto-check ## formatting, lint, types, import rules, contracts
	@$(BIN)/ruff format --check --quiet . || { echo "run: $(BIN)/ruff format ."; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo >.venv/imports.log 2>&1 || { cat .venv/imports.log; exit 1; }
	@$(BIN)/buf lint proto
	@echo "checked: format, lint, types, imports, contracts, generated code"

# They wait for nothing: as many processes as there are cores.
unit: WORKERS := auto
unit: .venv/.dev ## the tests that need no server
	@$(PYTEST) tests/unit $(ARGS)

integration: .venv/.dev ## the tests with real servers and sockets
	@$(PYTEST) tests/soak tests/security tests/integration tests/contract $(ARGS)

soak: .venv/.dev ## ten minutes of random work under random faults, then everything must agree
	@SOAK_SECONDS=$${SOAK_SECONDS:-600} SOAK_SEED=$${SOAK_SEED:-random} $(BIN)/python -m pytest -s tests/soak/test_soak.py $(ARGS)

fuzz: SECONDS ?= 600
fuzz: .venv/.dev ## give every decoder inputs that are not as they should be: make fuzz SECONDS=600
	@FUZZ_SECONDS=$(SECONDS) FUZZ_SEED=$${FUZZ_SEED:-random} FUZZ_KEEP=1 \
		$(BIN)/python -m pytest -n auto --dist loadfile tests/fuzz $(ARGS)

define generate
$(BIN)/python -m grpc_tools.protoc -I proto --python_out=$(1) --mypy_out=quiet:$(1) \
	--grpc_python_out=$(1) --mypy_grpc_out=quiet:$(1) $$(find $(PROTO) -name '*.proto' | sort)
endef

proto: .venv/.dev ## generate the code of the contracts again
	@$(call generate,proto/gen)
	@find proto/gen/koupleless -type d -exec touch {}/__init__.py \;

docs: .venv/.dev ## write the pages that are made from settings and contracts again
	@$(BIN)/python -m docs.configuration
	@$(BIN)/python -m docs.api
	@$(BIN)/python -m docs.pods
	@$(BIN)/python -m docs.picture

proto-check: .venv/.dev
	@rm -rf .venv/gen && mkdir .venv/gen
	@$(call generate,.venv/gen)
	@diff -r -q -x __init__.py -x py.typed -x __pycache__ .venv/gen proto/gen \
		|| { echo "generated code is not that of the contracts; run: make proto"; exit 1; }

lock: ## choose and pin dependencies again (needs uv)
	@command -v $(UV) >/dev/null || { echo "uv is needed to make the locks: https://docs.astral.sh/uv/"; exit 1; }
	@printf 'pip>=26\nsetuptools>=80\n' | $(UV) pip compile --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate -q - -o requirements-build.lock
	@$(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-header -q \
		pyproject.toml --extra broker -o requirements.lock
	@$(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-header -q \
		-c requirements.lock -c requirements-build.lock pyproject.toml --extra broker --group dev -o requirements-dev.lock

test-servers: .venv/.dev ## get the servers that the tests need: Kubernetes (download, or build with Go), Mosquitto
	@$(BIN)/python -m tests.servers fetch $(ARGS)

compat: .venv/.dev ## the tests that need Kubernetes, on the oldest and on the newest version that is supported
	@for version in 1.20 current; do \
		export TEST_KUBERNETES=$$version REQUIRE_KUBERNETES=1; unset KUBEBUILDER_ASSETS; \
		$(BIN)/python -m tests.servers fetch --need kubernetes || exit 1; \
		$(PYTEST) -m kubernetes $(ARGS) || exit 1; \
	done

bench: .venv/.dev ## measure, and print the targets beside
	@$(BIN)/python -m benchmarks $(ARGS)

clean: ## remove what was made, except the environment
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove the environment, too
	@rm -rf .venv *.egg-info

.venv/.made:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not there: install Python 3.11 or newer"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is $$($(PYTHON) -V 2>&1); 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) has no venv module (Debian and Ubuntu: apt install python3-venv)"; exit 1; }
	@echo "creating .venv ..."
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/.runtime: .venv/.made requirements-build.lock requirements.lock pyproject.toml
	@echo "installing into .venv ..."
	@$(call install,--require-hashes -r requirements-build.lock)
	@$(call install,--require-hashes --no-build-isolation -r requirements.lock)
	@$(call install,--no-deps --no-build-isolation --editable .)
	@touch $@

.venv/.dev: .venv/.runtime requirements-dev.lock
	@echo "installing what tests and checks need into .venv ..."
	@$(call install,--require-hashes --no-build-isolation -r requirements-dev.lock)
	@touch $@
