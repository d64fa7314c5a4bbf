# The two commands of the README are `make reproduce` and `make test`; `make help` lists the others.
PYTHON ?= python3
CORES ?= all
TARGET ?= main
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help install reproduce report plan status test torture tamper cluster load format docs lock

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: .venv/installed ## create or update .venv (without a GPU: TORCH_INDEX=URL of torch built for CPUs)

# Another TORCH_INDEX than the last one installs again; without the variable the last one stays.
ifneq ($(origin TORCH_INDEX),undefined)
ifneq ($(TORCH_INDEX),$(shell cat .venv/torch-index 2> /dev/null))
.PHONY: .venv/installed
endif
endif

# Debian's python3 may lack ensurepip: its own pip then fills the environment.
.venv/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: Python 3.11 or newer is needed; name it with make PYTHON=python3.12 …"; exit 1; }
	@PYTHONPATH=src $(PYTHON) -m onlybn.environment .venv
	$(PYTHON) -m venv .venv || $(PYTHON) -m venv --clear --without-pip .venv
	test -x $(BIN)/pip || $(PYTHON) -m pip --python $(BIN)/python install pip
	@PYTHONPATH=src $(BIN)/python -m onlybn.environment .venv --install \
		$(if $(filter-out undefined,$(origin TORCH_INDEX)),--torch-index '$(TORCH_INDEX)')

reproduce: install ## train, measure and draw the default study (CORES=2 to use two cores)
	@$(BIN)/snakemake main --cores $(CORES)
	@$(BIN)/python -m onlybn claims

report: install ## run a study and write one HTML file: CONFIG="study=cifar10-short …" TARGET=all
	$(BIN)/snakemake $(TARGET) --cores $(CORES) $(if $(CONFIG),--config $(CONFIG))
	@$(BIN)/python -m onlybn.workflow.report $(TARGET) $(CONFIG)

plan: install ## print what a study would cost on this machine: CONFIG="study=cifar10 …"
	@$(BIN)/python -m onlybn plan $(CONFIG)

status: install ## show which runs of the default study are done (WATCH=1 follows), or CONFIG="study=cifar10 …"
	@$(BIN)/python -m onlybn status $(if $(WATCH),--watch) $(CONFIG)

test: install ## check format and style, run the tests and a tiny real workflow
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

torture: install ## kill real training at random moments and compare the results (KILLS=50)
	$(BIN)/python tests/torture.py --kills $(or $(KILLS),50)

tamper: install ## damage files of finished runs at random and check that it is detected (STRIKES=20)
	$(BIN)/python tests/tamper.py --strikes $(or $(STRIKES),20)

cluster: install ## inject faults into a study on a real one-node Slurm (Debian, as root)
	$(BIN)/python tests/cluster/run.py

load: install ## run the jobs of the whole CIFAR-10 study without training, with random faults
	$(BIN)/python tests/load.py

format: install ## format all code
	$(BIN)/ruff format
	$(BIN)/ruff check --fix
	$(BIN)/snakefmt Snakefile workflow

docs: install ## regenerate the parts of the documentation that come from code and results/reference
	$(BIN)/python docs/generate.py

lock: install ## pin the newest versions that pyproject.toml allows (needs uv)
	uv pip compile --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
		--no-emit-index-url --no-header --extra dev pyproject.toml -o requirements.txt
