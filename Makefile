# The two commands of the README are `make reproduce` and `make test`; `make help` lists the rest.
PYTHON ?= python3
CORES ?= all
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help install reproduce report plan status test torture tamper cluster load format docs lock

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: .venv/installed ## make .venv, or bring it up to date with the pinned dependencies

# Debian's python3 may come without ensurepip: then its own pip fills the environment.
.venv/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: Python 3.11 or newer is needed; name it with make PYTHON=python3.12 …"; exit 1; }
	@PYTHONPATH=src $(PYTHON) -m onlybn.environment .venv
	@echo "Installing the pinned dependencies into .venv: about 5 GB, a few minutes."
	$(PYTHON) -m venv .venv || $(PYTHON) -m venv --clear --without-pip .venv
	test -x $(BIN)/pip || $(PYTHON) -m pip --python $(BIN)/python install pip
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

reproduce: install ## train, measure and draw the default study (CORES=2 to use two cores)
	@$(BIN)/snakemake main --cores $(CORES)

report: reproduce ## the default study as one file to read, report.html
	$(BIN)/snakemake main --report report.html

plan: install ## say what the default study will cost here, or CONFIG="study=cifar10 …"
	@$(BIN)/python -m onlybn plan $(CONFIG)

status: install ## show which runs of the default study are done (WATCH=1 follows), or CONFIG="study=cifar10 …"
	@$(BIN)/python -m onlybn status $(if $(WATCH),--watch) $(CONFIG)

test: install ## format and lint checks, the tests, and a tiny real workflow
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

torture: install ## kill real training at random moments, and compare what comes out (KILLS=50)
	$(BIN)/python tests/torture.py --kills $(or $(KILLS),50)

tamper: install ## spoil files of finished runs at random, and see that nothing comes of it unsaid (STRIKES=20)
	$(BIN)/python tests/tamper.py --strikes $(or $(STRIKES),20)

cluster: install ## a real Slurm of one node, whose jobs, node and Snakemake are disturbed (Debian, root)
	$(BIN)/python tests/cluster/run.py

load: install ## the whole CIFAR-10 study's jobs, replaced by tiny ones of which some die
	$(BIN)/python tests/load.py

format: install ## format all code
	$(BIN)/ruff format
	$(BIN)/ruff check --fix
	$(BIN)/snakefmt Snakefile workflow

docs: install ## write again what the documentation takes from the code and from results/reference
	$(BIN)/python docs/generate.py

lock: install ## pin the newest versions that pyproject.toml allows (needs uv)
	uv pip compile --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
		--no-emit-index-url --no-header --extra dev pyproject.toml -o requirements.txt
