# Every target works from a bare checkout: it creates the environment first.
.DEFAULT_GOAL := help
SHELL := /bin/sh
BIN := .venv/bin
# The first of these that runs and has a supported version.
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(shell $(p) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $(p))))
LOCK_IN := printf 'hatchling\neditables\nuv\n'
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock"
# uv installs in seconds, pip in most of a minute; pip is the fallback if uv cannot reach the index.
UV := VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --system-certs
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --retries 2
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
NEEDED := Voltwire needs Python 3.11, 3.12 or 3.13
DOWNLOAD_FAILED := { echo "The packages could not be downloaded; the lines above say why. Check the network and the package index (PIP_INDEX_URL, proxy), then run make again: it goes on from here." >&2; exit 1; }
# A .venv does not work if its Python is gone, not supported or without pip, or if the checkout was moved.
# Then it is made again.
STALE := $(if $(wildcard .venv),$(shell { $(BIN)/python -c 'import pip; $(SUPPORTED)' && { test ! -e .venv/.runtime || grep -qF "$(CURDIR)/.venv/bin/python" $(BIN)/voltwire; }; } 2>/dev/null || echo stale))

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: .venv/.runtime  ## create .venv with exactly the packages of requirements.lock

# uv is installed from its own block of the lock file, by hash.
.venv/.runtime: requirements.lock pyproject.toml $(STALE)
	@test -n "$(PYTHON)" || { echo "$(NEEDED): install one, or name it with make PYTHON=/path/to/python." >&2; exit 1; }
	@$(PYTHON) -c '$(SUPPORTED)' 2>/dev/null || { echo "$(NEEDED), and PYTHON=$(PYTHON) is none of them: name another one, or leave PYTHON out." >&2; exit 1; }
	@if test -n "$(STALE)"; then echo "The environment in .venv does not work here any more (moved, or its Python has gone): it is made again."; rm -rf .venv; fi
	@test -x $(BIN)/python || { echo "Creating .venv with $$($(PYTHON) --version) ..." && $(PYTHON) -m venv .venv; } || { rm -rf .venv; exit 1; }
	@echo "Installing uv, which installs the rest ..."
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > .venv/uv.txt
	@$(PIP) --require-hashes -r .venv/uv.txt || $(DOWNLOAD_FAILED)
	@echo "Installing the $$(grep -c '^[a-z].*==' requirements.lock) packages of requirements.lock, once: some 20 seconds ..."
	@$(UV) --require-hashes -r requirements.lock || $(PIP) --require-hashes -r requirements.lock || $(DOWNLOAD_FAILED)
	@echo "Installing Voltwire itself ..."
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

stale:

.venv/.dev: .venv/.runtime requirements-dev.lock
	@echo "Installing the tools of requirements-dev.lock, once ..."
	@$(UV) --require-hashes -r requirements-dev.lock || $(PIP) --require-hashes -r requirements-dev.lock || $(DOWNLOAD_FAILED)
	@touch $@

up: setup  ## run everything: PostgreSQL, broker, ingestor, API, scheduler
	@exec $(BIN)/voltwire up

demo: setup  ## make up plus 20 simulated battery devices with a month of history
	@exec $(BIN)/voltwire up --demo

check: .venv/.dev  ## formatting, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Mosquitto is the production broker, faketime sets clocks in tests, prometheus brings promtool, which checks
# the alert rules, nginx is the proxy of deploy/nginx/, openssl makes certificates, the page is tested in
# Chromium, and g++ compiles the Arduino sketch. Root installs them from Debian; RUNLEVEL and SYSTEMD_OFFLINE
# keep the services from being started. For other users their tests are skipped when they are missing.
APT := mosquitto mosquitto-clients faketime prometheus nginx openssl chromium g++
PROGRAMS := mosquitto mosquitto_sub faketime promtool nginx openssl chromium g++
apt:
	@for program in $(PROGRAMS); do PATH="$$PATH:/usr/sbin" command -v $$program || exit 1; done >/dev/null \
	  || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
	  && echo "Installing $(APT) ..." && apt-get update -qq \
	  && RUNLEVEL=1 SYSTEMD_OFFLINE=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(APT) >/dev/null; } || true

# Four files at a time: most tests wait more than they work. Each process has a PostgreSQL of its own.
# Without .pyc files every one of these processes would compile every test again.
unexport PYTHONDONTWRITEBYTECODE
PYTEST := $(BIN)/python -m pytest -n 4 --dist loadfile
test: .venv/.dev apt  ## the tests, with a real PostgreSQL and real brokers; make chaos adds the long ones
	$(PYTEST)

test-fast: .venv/.dev apt  ## for the inner loop: the unit tests and the quick integration tests
	$(PYTEST) -n 3 -m "not slow and not chaos" tests/integration tests/unit

chaos: .venv/.dev apt  ## every process and every link killed, frozen and cut: the long fault suite
	CHAOS_SEEDS="$${CHAOS_SEEDS:-1,2,3,4,5}" $(BIN)/python -m pytest -m "chaos or chaos_short"

bench: .venv/.dev apt  ## benchmarks with their table
	$(BIN)/python -m benchmarks

screenshots: .venv/.dev apt  ## the pictures of docs/images/, from the demo in Chromium
	$(BIN)/python -m tests.screenshots

format: .venv/.dev  ## format, and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: .venv/.runtime  ## resolve the dependencies of pyproject.toml into requirements*.lock
	@$(LOCK_IN) > .venv/lock.in
	$(COMPILE) --extra parquet pyproject.toml .venv/lock.in -o requirements.lock
	$(COMPILE) -c requirements.lock --group dev -o requirements-dev.lock

# --strict: a package that cannot be looked up fails the audit instead of being left out of it.
audit: .venv/.runtime  ## ask PyPI for known vulnerabilities of the locked packages
	$(BIN)/uv tool run pip-audit@2.10.1 --strict --disable-pip --require-hashes -r requirements.lock -r requirements-dev.lock

.PHONY: help setup stale up demo check apt test test-fast chaos bench screenshots format lock audit
