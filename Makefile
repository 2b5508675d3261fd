# make        set up .venv, with the commands openim-bridge and openim-consumers
# make run    run everything: with Docker Compose where it answers, else on this machine
#             EXAMPLE=moderation: with a policy and a handler that decide about messages
# make test   run the tests; ARGS="-k friend -x" goes to pytest
# make check  lint and types
# make bench  measure receiver and workers beside others; takes some minutes; ARGS=consumers
# make torture  an hour of faults at random; ARGS="--minutes 5" goes to it; ARGS=workers
# make stack  kill and replace each container of the Compose stack that runs, under load
# make lock   write requirements/*.lock anew from pyproject.toml
# make clean  remove what the others made, data included

PYTHON ?= python3
PIP = .venv/bin/python -m pip --quiet --disable-pip-version-check
DOCKER_ANSWERS = docker compose version >/dev/null 2>&1 && docker info >/dev/null 2>&1
UV = $(firstword $(wildcard .venv/bin/uv) uv)
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --upgrade \
	--generate-hashes --no-emit-index-url --custom-compile-command "make lock"
# An editable install needs one package more.
BUILD_REQUIRES = import tomllib; \
	project = tomllib.load(open("pyproject.toml", "rb")); \
	print(*project["build-system"]["requires"], "editables", sep="\n")

ifeq ($(EXAMPLE),moderation)
export COMPOSE_FILE := docker-compose.yml:deploy/moderation/compose.yml
export BRIDGE_POLICY := deploy/moderation/policy.toml
export CONSUMERS_HANDLERS := \
	consumers.handlers.friend_verification,consumers.handlers.moderation
endif

.PHONY: setup run test check bench torture stack lock clean
.DELETE_ON_ERROR:

setup: .venv/installed
	@:

.venv/locked: requirements/dev.lock requirements/build.lock
	@$(PYTHON) -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' \
		2>/dev/null || { echo "Needed: Python 3.11 or newer with its venv module" \
		"(on Debian and Ubuntu: apt-get install python3-venv); or name one: make PYTHON=..."; \
		exit 1; }
	@echo "Setting up .venv"
	@$(PYTHON) -m venv --clear .venv
	@$(PIP) install --require-hashes --no-deps -r requirements/build.lock
	@$(PIP) install --require-hashes --no-deps -r requirements/dev.lock
	@touch $@

# Built with what the lock brought, so that nothing else is fetched.
.venv/installed: .venv/locked pyproject.toml
	@$(PIP) install --no-build-isolation --no-deps --editable .
	@touch $@

run:
	@if $(DOCKER_ANSWERS); then \
		docker compose up --build --wait && $(PYTHON) deploy/next_steps.py; \
	else \
		$(MAKE) --no-print-directory setup && .venv/bin/python deploy/run_natively.py; \
	fi

test: setup
	@.venv/bin/python -m pytest $(ARGS)

check: setup
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy

torture: setup
	@PYTHONPATH=deploy .venv/bin/python -m tests.torture $(ARGS)

stack: setup
	@.venv/bin/python -m tests.stack $(ARGS)

bench: setup
	@.venv/bin/python benchmarks/bench.py $(ARGS)

lock:
	@command -v $(UV) >/dev/null || { echo "Needed: uv (pip install uv)"; exit 1; }
	@$(COMPILE) pyproject.toml --extra speed --extra tracing -o requirements/run.lock
	@$(COMPILE) pyproject.toml --extra speed --extra tracing --group test --group check \
		-o requirements/dev.lock
	@$(PYTHON) -c '$(BUILD_REQUIRES)' | $(COMPILE) - -o requirements/build.lock

clean:
	@rm -rf .venv .run .mypy_cache .pytest_cache .ruff_cache .hypothesis
