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
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: .venv/.runtime  ## create .venv with exactly the packages of requirements.lock

# uv is installed from its own block of the lock file, by hash.
.venv/.runtime: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Voltwire needs Python 3.11, 3.12 or 3.13: install one, or name it with make PYTHON=/path/to/python." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > .venv/uv.txt
	@$(PIP) --require-hashes -r .venv/uv.txt
	@$(UV) --require-hashes -r requirements.lock || $(PIP) --require-hashes -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.dev: .venv/.runtime requirements-dev.lock
	@$(UV) --require-hashes -r requirements-dev.lock || $(PIP) --require-hashes -r requirements-dev.lock
	@touch $@

up: setup  ## run everything: PostgreSQL, broker, ingestor, API, scheduler
	@exec $(BIN)/voltwire up

demo: setup  ## make up plus 20 simulated battery devices
	@exec $(BIN)/voltwire up --demo

check: .venv/.dev  ## formatting, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Mosquitto is the production broker, and faketime sets clocks in tests. Root installs them from Debian
# without starting them; for other users their tests are skipped when they are missing.
APT := mosquitto mosquitto-clients faketime
apt:
	@{ { command -v mosquitto || test -x /usr/sbin/mosquitto; } && command -v mosquitto_sub && command -v faketime; } >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
	  && apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(APT) >/dev/null; } || true

# Four files at a time: most tests wait more than they work. Each process has a PostgreSQL of its own.
# Without .pyc files every one of these processes would compile every test again.
unexport PYTHONDONTWRITEBYTECODE
PYTEST := $(BIN)/python -m pytest -n 4 --dist loadfile
test: .venv/.dev apt  ## every test, with a real PostgreSQL and real brokers
	$(PYTEST)

test-fast: .venv/.dev apt  ## for the inner loop: the unit tests and the quick integration tests
	$(PYTEST) -m "not slow" tests/integration tests/unit

chaos: .venv/.dev apt  ## every process and every link killed, frozen and cut: the long fault suite
	CHAOS_SEEDS="$${CHAOS_SEEDS:-1,2,3,4,5}" $(BIN)/python -m pytest -m "chaos or chaos_short"

bench: .venv/.dev apt  ## benchmarks with their table
	$(BIN)/python -m benchmarks

format: .venv/.dev  ## format, and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: .venv/.runtime  ## resolve the dependencies of pyproject.toml into requirements*.lock
	@$(LOCK_IN) > .venv/lock.in
	$(COMPILE) --extra parquet pyproject.toml .venv/lock.in -o requirements.lock
	$(COMPILE) -c requirements.lock --group dev -o requirements-dev.lock

.PHONY: help setup up demo check apt test test-fast chaos bench format lock
