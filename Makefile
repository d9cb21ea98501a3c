# `make quickstart` and `make test` are all that most people need; `make help` lists the rest.

# cpu, or cuda12, cuda13, tpu for an accelerator: make quickstart EXTRA=cuda12
EXTRA ?= cpu
WORKDIR ?= runs/quickstart
# Test processes; compiling dominates, so more than a few only costs memory.
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$((n > 8 ? 8 : n)))
BIN := .venv/bin

.PHONY: help quickstart install test test-slow benchmark wheels notebooks docs lint types unit format lock clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

quickstart: .venv/.$(EXTRA)-installed ## choose an upstream set, pretrain, finetune, see whether it was right
	$(BIN)/python -m atomjax.launch --config configs/quickstart.py --workdir $(WORKDIR)

install: .venv/.$(EXTRA)-installed ## only make .venv and install the locked versions

# -k: later checks still run, and the command fails all the same.
test: .venv/.dev-installed ## lint, format, types and the fast tests
	@$(MAKE) --no-print-directory -k lint types unit

# With the programs that users run; the fast tests leave LLVM's passes out.
test-slow: .venv/.dev-installed ## the tests that take minutes; ARGS=tests/test_site.py runs some of them
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(BIN)/python -m pytest -m slow $(ARGS)

benchmark: .venv/.dev-installed ## every benchmark of speed, into docs/results; ARGS=--quick takes 5 minutes
	$(BIN)/python -m benchmarks.all $(ARGS)

# What JAX's own images for accelerators lack; "make wheels INTO=usb" fills another folder.
INTO ?= wheels
wheels: ## wheels for a node without network that has Python 3.12, JAX, flax, optax and orbax
	requirements/wheels.sh $(INTO)

notebooks: .venv/.dev-installed ## notebooks/*.ipynb, from the sources beside them; the repository's address
	$(BIN)/python docs/addresses.py
	$(BIN)/python docs/notebooks.py

docs: .venv/.dev-installed ## the site, into dist/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

lint: .venv/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.dev-installed
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

unit: .venv/.dev-installed
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

format: .venv/.dev-installed ## rewrite the sources in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/.%-installed: requirements/%.txt requirements/sync.sh pyproject.toml
	requirements/sync.sh $*
	@touch $@

# The dev lock holds everything the cpu lock holds.
.venv/.dev-installed: requirements/dev.txt requirements/torch-cpu.txt requirements/sync.sh pyproject.toml
	requirements/sync.sh dev
	@touch $@ .venv/.cpu-installed

COMPILE = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command "make lock" --group build $(if $(UPGRADE),--upgrade) pyproject.toml

lock: ## pin every dependency again (needs uv); UPGRADE=1 takes the newest versions
	$(COMPILE) --extra demo -o requirements/cpu.txt
	$(COMPILE) --extra demo --extra dev -o requirements/dev.txt
	$(COMPILE) --extra demo --extra cuda12 -o requirements/cuda12.txt
	$(COMPILE) --extra demo --extra cuda13 -o requirements/cuda13.txt
	$(COMPILE) --extra demo --extra tpu -o requirements/tpu.txt
	$(COMPILE) --extra demo --extra convert -o requirements/convert.txt

clean: ## remove .venv, caches and builds, but not runs/
	rm -rf .venv .cache .pytest_cache .ruff_cache dist
