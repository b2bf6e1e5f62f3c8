# Two commands do all the set-up: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/sh
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable
PYTEST := PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest
N ?= 200
SEED ?= 1
COVER ?=
STORM := PYTHONHASHSEED=0 $(BIN)/$(if $(COVER),coverage run --concurrency=multiprocessing,python) -m tests.storm
# what decides when things go wrong: its branches are what the storm is to reach
STORMY := $(shell printf '*/towline/%s,' runner.py core/run.py core/answers.py context.py line.py talk.py ending.py ownership.py renting.py recover.py 'steps/*' 'following/*' store/database.py)
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: compiled help demo test lint format crash faults cuts storm storm-real bench frameworks logs docs coverage clean debian

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

demo: .venv/.demo  ## Train a real small model through the whole main job, with no account
	$(BIN)/towline demo
	$(BIN)/python scripts/check_demo.py

test: debian compiled  ## Run all tests but those that need a GPU or rent a machine
	$(PYTEST) -n 3 --dist loadfile --no-loadscope-reorder -m "not gpu and not live" $(ARGS)

lint: .venv/.lint  ## Check style, types and who imports whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	PYTHONPATH=src $(BIN)/lint-imports

format: .venv/.lint  ## Bring the code into the one format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

crash: debian .venv/.test  ## Kill the driver at N random moments: make crash N=200
	TOWLINE_CRASH_RUNS=$(N) $(PYTEST) tests/crash -m crash --timeout 0 $(ARGS)

faults: debian .venv/.test  ## Inject N seeded faults at each provider's stand-in: make faults N=1000
	TOWLINE_FAULT_RUNS=$(N) $(PYTEST) tests/faults -m faults --timeout 0 $(ARGS)

cuts: debian .venv/.test  ## Cut the link to a real OpenSSH server: 20 s in each long step, and every 5 s
	TOWLINE_CUT_S=20 TOWLINE_CUTS=6 TOWLINE_CUT_PAUSE_S=5 $(PYTEST) tests/netns --timeout 0 $(ARGS)

storm-real: N = 40
storm-real: SEED = 1
storm-real: debian compiled  ## Live N seeded lives with real faults on real processes, as root: make storm-real N=40 SEED=1
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.storm_real --lives $(N) --seed $(SEED) $(ARGS)

storm: .venv/.test  ## Live N whole lives in virtual time: make storm N=100000 SEED=1 COVER=1
	$(STORM) --lives $(N) --seed $(SEED) $(ARGS)
	$(if $(COVER),@$(BIN)/coverage combine --quiet && $(BIN)/coverage report --show-missing --include '$(STORMY)')

bench: debian .venv/.test  ## Run every benchmark; results in build/bench/*.json
	@mkdir -p build/bench
	@for file in bench/[a-z]*.py; do \
	  name=$$(basename $$file .py); echo "$$name: build/bench/$$name.json"; \
	  PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python $$file > build/bench/$$name.json || exit 1; \
	done

frameworks: .venv/.test  ## Train a real project of each framework through towline: heavy, 10 minutes
	$(BIN)/python scripts/frameworks.py $(ARGS)

logs: .venv/.test  ## Record what those trainings print into tests/data/logs: Linux only
	$(BIN)/python scripts/record_logs.py $(ARGS)

docs: .venv/.test  ## Check the docs against the code
	$(PYTEST) tests/test_docs.py tests/test_architecture.py $(ARGS)

coverage: debian .venv/.test  ## Run the tests and show which lines they never reached
	$(BIN)/coverage erase
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/coverage run -m pytest -n 2 --dist loadfile -m "not gpu and not live"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered --show-missing

clean:  ## Remove what make made; results of runs are kept
	rm -rf .venv build dist .coverage .coverage.* .hypothesis .import_linter_cache
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find src tests bench scripts -name __pycache__ -type d -prune -exec rm -rf {} +

debian:
	@sh scripts/setup.sh debian

.venv/.made:
	@sh scripts/setup.sh venv
	@touch $@

.venv/.demo: .venv/.made pyproject.toml
	$(INSTALL) ".[demo]"
	@touch $@

.venv/.test: .venv/.made pyproject.toml
	$(INSTALL) ".[demo,test]"
	@touch $@

# tests start the command hundreds of times; where PYTHONDONTWRITEBYTECODE is set it would be
# compiled each time
compiled: .venv/.test
	@$(BIN)/python -m compileall -q src

.venv/.lint: .venv/.made pyproject.toml
	$(INSTALL) ".[lint]"
	@touch $@
