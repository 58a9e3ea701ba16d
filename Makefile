# Every target does its own set-up, in .venv beside this file. pip's own settings (index, proxy, cache) are honoured.
#   make test PYTHON=python3.12        another interpreter for a new .venv
#   make test ARGS="tests/losses -x"   options for pytest

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help quickstart test gpu lint format wheel clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

quickstart: .venv/.installed-quickstart ## train on this machine's own Python packages, evaluate, search; needs no download but the packages
	@$(BIN)/python -m inbatch.experiments.quickstart $(ARGS)

# One thread a process: the tests compare sums made in one order, and the processes share the cores. A process that has done its share
# takes from the others: else the last minutes are those of one process.
test: .venv/.installed-test ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal $(ARGS)

gpu: .venv/.installed-test ## on a machine with a GPU: the tests that need one, then the benchmark into benchmarks/results/
	$(BIN)/python -m pytest -m gpu $(ARGS)
	mkdir -p benchmarks/results
	$(BIN)/inbatch bench kernels --out benchmarks/results/kernels.json --plot benchmarks/results/kernels.png

lint: .venv/.installed-test ## check style, format and types; change nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

format: .venv/.installed-test ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: .venv/.installed-test ## build dist/*.whl
	rm -rf build dist
	$(BIN)/python -m build --wheel --no-isolation

clean: ## remove the environment and all that can be made again; keep runs/
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is made last, so an interrupted installation is taken up again, and a finished one costs nothing.
# The constraints hold for every package: without them pip would take the newest torch, which is not the one that is tested.
.venv/.installed-%: setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "expected Python 3.11 or newer; $(PYTHON) is older or missing. Set PYTHON=python3.11" >&2; exit 2; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv
	@echo "installing inbatch[$*] into .venv (once; torch is the large part)"
	$(BIN)/python -m pip install $$([ -t 1 ] || echo --quiet) -c constraints.txt -e '.[$*]'
	@touch $@
