# Everything that a person or CI runs.  `make demo` and `make test` do all the set-up themselves.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# Two at a time, in the order of the files, and those of one file by one process, which starts its servers once.
TESTS  := $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

# `make test SERVERS=wheels` uses the Redis and PostgreSQL that Python packages carry, whatever else is installed.
SERVERS ?=
export SERVERS

# Every test that talks to Redis or PostgreSQL; tests/servers/test_binaries.py holds this list against the tests.
WITH_SERVERS := tests/benchmarks tests/cli tests/docs/test_migrating.py tests/history tests/migrate tests/processes tests/races tests/servers tests/storages/postgres tests/storages/redis

# What can differ without orjson: the records, and the storages that keep records as they are.
WITH_JSON := tests/record tests/session/test_session.py tests/packaging/test_api_snapshot.py tests/packaging/test_public_api.py tests/storages/test_contract.py

.PHONY: demo test check without-orjson coverage servers pythons lint types mypy public-types proofs docs bench figures clean

demo: $(VENV)/.demo
	$(BIN)/python -m demo

test: check

# What a change has to pass; also what CI runs.  PYTEST adds options to the last run: `make test PYTEST="-n 8"`.
check: $(VENV)/.test
	$(MAKE) --no-print-directory --jobs 2 without-orjson lint types
	$(TESTS) -m "not long" $(PYTEST)

# What reads and writes JSON, once more as it is where orjson is not installed.
without-orjson: $(VENV)/.test
	PYTHONPATH=tests $(BIN)/python -m pytest -q -p without_orjson -m "not long" $(WITH_JSON)

# Which lines and branches the tests reach.  Tracing them takes as much time as the tests.
coverage: $(VENV)/.test
	$(TESTS) -m "not long" --cov --cov-report=term:skip-covered $(PYTEST)

# The part of the tests that can differ with the servers: `make servers SERVERS=wheels`.
servers: $(VENV)/.test
	$(TESTS) -m "not long" $(WITH_SERVERS) $(PYTEST)

# The core, the storages and HTTP on the other Pythons that we support, where they are installed; it says on which.
pythons:
	.ci/other-pythons 3.12 3.13

lint: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo

types: mypy public-types

mypy: $(VENV)/.test
	$(BIN)/mypy

public-types: $(VENV)/.test
	$(BIN)/python tests/check_public_types.py

# Proofs that take minutes; for longer histories: python -m tests.history --minutes 60 --storage redis --chaos
proofs: $(VENV)/.test
	$(TESTS) --dist load -m long $(PYTEST)

# The documentation, as a site in site/; fails on any warning.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# Compares and measures, half an hour on two cores that do nothing else; the figures go to bench-results/.
bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks.storage
	$(BIN)/python -m benchmarks.scale
	$(BIN)/python -m benchmarks.owners
	$(BIN)/python -m benchmarks.watching
	$(BIN)/python -m benchmarks.inside
	$(BIN)/python -m benchmarks.redis_calls
	$(BIN)/python -m benchmarks.postgres_statements
	$(BIN)/python -m benchmarks.http
	$(BIN)/python -m benchmarks.http memory files "files floor" redis postgres --sessions 1 --json bench-results/http-one-session.json

# Puts the figures of the last `make bench` into the documentation.
figures: $(VENV)/.bench
	$(BIN)/python -m benchmarks.tables --into docs/performance.md
	$(BIN)/python -m benchmarks.plot --to docs/images

$(VENV)/.demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo]'
	touch $@

$(VENV)/.test: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@ $(VENV)/.demo

$(VENV)/.docs: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

$(VENV)/.bench: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	touch $@

clean:
	rm -rf $(VENV) .venv-3.* .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache bench-results build dist site
