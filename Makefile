# Everything a newcomer needs: `make demo`, `make test`. The environment is made on first use and kept in .venv.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
DAYS ?= 31
PROVE_DAYS ?= 360
CELERY_DAYS ?= 14
MOVES ?= 1000
COMMIT ?= HEAD
SOAK_DAYS ?= 1000
FOLDER ?= screenshots
FAULTS ?=
JOBS ?= 2
SEED ?= 1
LIMIT_S ?= 0
ORACLE_S ?= 600
WORKERS ?= 3

# Empty means: keep bytecode, whatever the shell says. Without it each of hundreds of processes compiles what it imports.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help install demo up down test test-again test-mysql lint format lock freeze-state ledger-check faults faults-quick oracle prove-backfill \
	prove-celery prove-readers soak bench \
	bench-ingest bench-intervals bench-mariadb bench-api bench-bi bench-gates bench-growth bench-late bench-objects \
	bench-proofs bench-sandbox bench-telemetry screenshots sbom licences audit clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

install: $(INSTALLED) ## Make the virtual environment .venv from the hashed lock files

$(INSTALLED): requirements/bootstrap.txt requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "Penstock needs Python 3.11 to 3.13; choose one with: make PYTHON=python3.12 ..." >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/bootstrap.txt
	@$(BIN)/uv pip sync --quiet --require-hashes --python $(BIN)/python requirements/dev.txt
	@$(BIN)/uv pip install --quiet --no-deps --python $(BIN)/python --editable .
	@touch $@

demo: $(INSTALLED) ## From nothing to a published warehouse: services, Airflow, January 2013, the account of every row
	@$(BIN)/penstock demo --days $(DAYS)

up: $(INSTALLED) ## Start PostgreSQL, S3 and Airflow with the demo data; they stay up
	@$(BIN)/penstock up

down: $(INSTALLED) ## Stop what `make up` started; data stays
	@$(BIN)/penstock down

test: $(INSTALLED) ## All tests, on real services
	@$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

MYSQL_TESTS = $(wildcard tests/integration/ingestion/test_mysql_*.py) tests/integration/ingestion/types/test_mariadb_types.py \
	tests/integration/ingestion/test_key_digests.py tests/integration/ingestion/test_reconcile.py \
	tests/integration/ingestion/test_starting_over.py tests/integration/penstock/test_chinook.py

test-mysql: $(INSTALLED) ## The MySQL reader's tests on the MySQL that MYSQL_OF_TESTS names
	@test -x "$(MYSQL_OF_TESTS)" || { echo "MYSQL_OF_TESTS must name a mysqld"; exit 1; }
	@MYSQL_OF_TESTS=$(MYSQL_OF_TESTS) $(BIN)/pytest -n 1 $(MYSQL_TESTS)

test-again: $(INSTALLED) ## The tests that failed the last time, one after the other
	@$(BIN)/pytest --last-failed --last-failed-no-failures none

faults: $(INSTALLED) ## Every fault, each step of every stage, 300 kills a stage; docs/faults.md (an hour; FAULTS=1,24 JOBS=2 SEED=1)
	@$(BIN)/python -m tests.campaign --faults "$(FAULTS)" --jobs $(JOBS) --seed $(SEED) --limit-s $(LIMIT_S) && failed=0 || failed=1; \
		$(BIN)/python -m tests.campaign.report && exit $$failed

faults-quick: $(INSTALLED) ## A sample of every fault (5 minutes)
	@$(BIN)/python -m tests.campaign --quick --faults "$(FAULTS)" --jobs $(JOBS) --seed $(SEED) --to .faults/quick

oracle: $(INSTALLED) ## Random sequences and interleavings against the serial model, seeds printed (ORACLE_S=600)
	@$(BIN)/python -m tests.oracle --seconds $(ORACLE_S)

lint: $(INSTALLED) ## ruff, mypy --strict, import directions
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(INSTALLED) ## Format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

freeze-state: $(INSTALLED) ## Keep the state that a commit's code writes, for the upgrade test of later ones (COMMIT=v0.2.0)
	@$(BIN)/python -m tests.upgrade.freeze --commit $(COMMIT)

ledger-check: $(INSTALLED) ## Run the whole year in a scratch folder and compare every row and column with the sources
	@$(BIN)/python benchmarks/ledger_check.py

prove-backfill: $(INSTALLED) ## A year of days through Airflow, killed on the way; the end compared (PROVE_DAYS=31)
	@$(BIN)/python -m benchmarks.prove_backfill --days $(PROVE_DAYS)

prove-celery: $(INSTALLED) ## Days through CeleryExecutor on hosts of their own, one killed on the way (CELERY_DAYS=14)
	@$(BIN)/python -m benchmarks.prove_celery --days $(CELERY_DAYS)

prove-readers: $(INSTALLED) ## Readers in processes of their own during 1,000 publishes and rollbacks (MOVES=1000)
	@$(BIN)/python -m benchmarks.prove_readers --moves $(MOVES)

screenshots: $(INSTALLED) ## A picture of every page, light, dark and as narrow as a telephone (FOLDER=screenshots)
	@$(BIN)/python -m tests.browser.screenshots $(FOLDER)

soak: $(INSTALLED) ## 1,000 simulated days in one process, and what grows meanwhile (SOAK_DAYS=1000 SVG= CURVE=; an hour)
	@$(BIN)/python -m benchmarks.soak --days $(SOAK_DAYS) $(if $(SVG),--svg $(SVG)) $(if $(CURVE),--curve $(CURVE))

bench: $(INSTALLED) ## Wall time, share of each stage and peak memory of the whole year
	@$(BIN)/python benchmarks/flights_year.py

bench-ingest: $(INSTALLED) ## TPC-H from PostgreSQL to Parquet beside its floors and its peers (half an hour)
	@$(BIN)/python -m benchmarks.ingest

bench-mariadb: $(INSTALLED) ## TPC-H from a MariaDB to the lake beside the server's own client (a quarter of an hour)
	@$(BIN)/python -m benchmarks.ingest_mariadb

bench-intervals: $(INSTALLED) ## What 365 daily intervals cost against one whole load of the same rows (some minutes)
	@$(BIN)/python -m benchmarks.ingest_intervals

bench-gates: $(INSTALLED) ## 25 checks on TPC-H beside a hand-written query, stock Great Expectations and peers (ten minutes)
	@$(BIN)/python -m benchmarks.gates

bench-growth: $(INSTALLED) ## What the 1,000th commit to a table costs against the 20th (a minute)
	@$(BIN)/python -m benchmarks.lake_growth

bench-late: $(INSTALLED) ## What 500,000 updated rows cost that are merged by key into 6 million (three minutes)
	@$(BIN)/python -m benchmarks.late_rows

bench-objects: $(INSTALLED) ## A million rows as CSV, JSON lines and Parquet from a folder (two minutes)
	@$(BIN)/python -m benchmarks.object_formats

bench-api: $(INSTALLED) ## What HTTP adds to DuckDB: requests a second, latency, exports, publishes under load (two minutes; PARTS="export publishing")
	@$(BIN)/python -m benchmarks.api $(if $(PARTS),--parts $(PARTS))

bench-bi: $(INSTALLED) ## What one changed day sends to the BI database, by month and whole (two minutes)
	@$(BIN)/python -m benchmarks.bi

bench-proofs: $(INSTALLED) ## What it costs a run to prove rows before they are used (two minutes)
	@$(BIN)/python -m benchmarks.proofs

bench-sandbox: $(INSTALLED) ## How soon guarded SQL that takes too much is gone, and what neighbours notice (ten minutes)
	@$(BIN)/python -m benchmarks.sandbox

bench-telemetry: $(INSTALLED) ## What costs, log lines, spans and metrics take from small intervals (two minutes)
	@$(BIN)/python -m benchmarks.telemetry

sbom: $(INSTALLED) ## The bill of materials of a production installation (CycloneDX): build/penstock.cdx.json
	@$(BIN)/python -m deploy.supply_chain sbom build/penstock.cdx.json

licences: $(INSTALLED) ## Write docs/licences.md again after a change of the lock files
	@$(BIN)/python -m deploy.supply_chain licences

audit: $(INSTALLED) ## Known vulnerabilities of what is locked, by PyPI's advisory database (needs that database)
	@$(BIN)/pip-audit --strict --require-hashes --disable-pip -r requirements/production.txt

lock: ## Compile the lock files again after a change of pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" requirements/bootstrap.in -o requirements/bootstrap.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" pyproject.toml -o requirements/runtime.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" pyproject.toml --group celery --group kubernetes -c requirements/runtime.txt \
		-o requirements/production.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" pyproject.toml --group celery --group kubernetes --group dev \
		-c requirements/production.txt -o requirements/dev.txt

clean: ## Stop everything and remove the state folder and the environment
	@if [ -x $(BIN)/penstock ]; then $(BIN)/penstock clean; fi
	@rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
