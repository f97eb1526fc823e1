# Every target sets up all it needs in $(VENV). Continuous integration calls these targets and nothing else.

TORCH ?= torch==2.13.0
PYTHON3 ?= python3
VENV ?= .venv
WORKERS ?= auto
PYTEST_ARGS ?=
STRENGTH_ARGS ?=
MUTANTS_ARGS ?=
FUZZ_CASES ?= 10000
FUZZ_SEED ?= 0
FUZZ_ARGS ?=
REPORTS ?= shard-*.json*
MERGED ?= report.json

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON := $(VENV)/bin/python
PIP := $(PYTHON) -m pip -qq --disable-pip-version-check
# Each worker imports torch, hence the ceiling; worksteal because the cases differ a thousandfold in cost.
PYTEST := $(PYTHON) -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal
# The stamp's name holds the requirement, so another TORCH is another stamp and installs anew.
STAMP := $(VENV)/.installed-$(shell printf '%s' '$(TORCH)' | tr -c 'A-Za-z0-9.' '_')

.PHONY: help parity test quick full fuzz merge bench strength mutants readme lint wheel-test clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  TORCH='$(TORCH)'   the torch to verify, as a pip requirement (or a wheel's absolute path)"
	@echo "  PYTHON3=$(PYTHON3)         the Python that makes $(VENV), 3.11 or later"
	@echo "  WORKERS=$(WORKERS)            processes to run the cases on; 0 runs them in pytest's own"
	@echo "  PYTEST_ARGS='...'       passed on, e.g. PYTEST_ARGS='-k Conv2d --device cpu'"
	@echo "  REPORTS='$(REPORTS)'  MERGED=$(MERGED)   what make merge reads and writes"
	@echo "  MUTANTS_ARGS='...'      e.g. MUTANTS_ARGS='--modules refimpl/conv.py --every 10'"
	@echo "  FUZZ_CASES=$(FUZZ_CASES)  FUZZ_SEED=$(FUZZ_SEED)  FUZZ_ARGS='...'   e.g. FUZZ_ARGS='--families pooling'"

parity: $(STAMP) ## verify the installed torch and print the table (the main job)
	$(PYTEST) parity_tests/conformance $(PYTEST_ARGS)

test: $(STAMP) ## run everything: the conformance suite and the tests of the suite itself
	$(PYTEST) parity_tests $(PYTEST_ARGS)

quick: $(STAMP) ## verify the installed torch on a small sweep, in seconds
	$(PYTEST) parity_tests/conformance --sweep quick $(PYTEST_ARGS)

full: $(STAMP) ## verify the installed torch on the largest sweep
	$(PYTEST) parity_tests/conformance --sweep full $(PYTEST_ARGS)

fuzz: $(STAMP) ## try generated cases beyond every sweep, and shrink those that fail
	$(PYTHON) -m parity_tests.fuzz --cases $(FUZZ_CASES) --seed $(FUZZ_SEED) $(FUZZ_ARGS)

bench: $(STAMP) ## time the references beside torch, and the harness itself (one process, nothing else running)
	$(PYTHON) -m pytest parity_tests/benchmarks/bench_*.py $(PYTEST_ARGS)

strength: $(STAMP) ## show what the suite catches: published bugs, beside others' tolerances; tables go to .parity
	$(PYTHON) -m parity_tests.strength $(STRENGTH_ARGS)

mutants: $(STAMP) ## change one operator or number at a time and see whether a test turns red; an hour and more
	$(PYTHON) -W ignore -m parity_tests.mutants $(MUTANTS_ARGS)

merge: ## make one report of those of shards and devices; needs Python alone, no torch
	$(firstword $(wildcard $(PYTHON)) $(PYTHON3)) -m parity_tests merge $(REPORTS) -o $(MERGED)

readme: $(STAMP) ## write the generated table of layers into README.md
	$(PYTHON) -m parity_tests.harness.readme

lint: $(STAMP) ## ruff, and mypy on refimpl and the harness
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy

wheel-test: $(STAMP) ## build the wheel, install it in a fresh environment, run the quick sweep outside the checkout
	@set -eu; unset PYTHONPATH; \
	outside=$$(mktemp -d); trap 'rm -rf "$$outside"' EXIT; \
	$(PYTHON) -m build --wheel --outdir "$$outside" . > "$$outside/build.log" || { cat "$$outside/build.log"; exit 1; }; \
	cd "$$outside"; wheel=$$(echo "$$outside"/*.whl); echo "built $${wheel##*/}"; \
	"$(abspath $(PYTHON))" -m venv fresh; \
	pip="fresh/bin/python -m pip -qq --disable-pip-version-check"; \
	echo "installing the wheel alone"; $$pip install "$$wheel"; \
	fresh/bin/python -c 'import refimpl, sys; "torch" in sys.modules and sys.exit("refimpl imports torch")'; \
	echo "installing $(TORCH) and the wheel's extras"; \
	$$pip install '$(TORCH)'; $$pip install "$$wheel[tests,fast]"; \
	fresh/bin/python -c 'import refimpl, parity_tests; print("testing", *refimpl.__path__, *parity_tests.__path__)'; \
	fresh/bin/python -m pytest --pyargs parity_tests --sweep quick $(PYTEST_ARGS)

clean: ## remove build results, caches and failure reports; keeps the virtual environment
	rm -rf build dist .parity .pytest_cache .ruff_cache .mypy_cache .benchmarks .hypothesis
	find refimpl parity_tests -type d -name __pycache__ -prune -exec rm -rf {} +

# torch first and by its pin: with a range alone, pip would fetch the newest build and its gigabytes of CUDA packages.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import pip' 2> /dev/null || { \
	    command -v '$(PYTHON3)' > /dev/null || $(call stop,there is no '$(PYTHON3)'); \
	    '$(PYTHON3)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	        $(call stop,'$(PYTHON3)' is $$('$(PYTHON3)' --version 2>&1)); \
	    echo "making $(VENV)"; \
	    if test -e $(VENV)/pyvenv.cfg; then '$(PYTHON3)' -m venv --clear $(VENV); else '$(PYTHON3)' -m venv $(VENV); fi; }
	@rm -f $(VENV)/.installed-*
	@echo "installing $(TORCH) and the suite in $(VENV)"
	@$(PIP) install '$(TORCH)'
	@$(PIP) install -e '.[tests,fast,dev]'
	@touch $@

stop = { echo "make: $(1), and Python 3.11 or later is needed: name one, as in make PYTHON3=python3.12" >&2; exit 1; }
