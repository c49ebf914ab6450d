# make setup | repro | pretrained | test | test-thorough | fuzz | soak | mutants | coverage | check-performance | ui | lint | deps | docs | build | lock | clean

PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
export PATH := $(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY ?= true

.PHONY: setup repro pretrained scm unlock test test-thorough fuzz soak mutants coverage check-performance lint deps docs build ui lock clean
.DEFAULT_GOAL := repro

setup: $(VENV)/.ready

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=python3.11 setup"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@# `dvc exp run` commits each experiment: if git has no identity, this one is set, for this clone only.
	@[ ! -e .git ] || git config user.name >/dev/null || git config --local user.name "NLA user"
	@[ ! -e .git ] || git config user.email >/dev/null || git config --local user.email "nla@localhost"
	@touch $@

repro: setup scm unlock  ## from raw faces to a registered model
	dvc repro

pretrained: setup scm unlock  ## the model that comes with the package: half an hour on two cores, FERPlus in data/raw/ferplus
	cd pretrained && dvc repro

unlock:               ## removes an empty file of locks: DVC writes it in place, and one that was killed there refuses all work
	@[ -s .dvc/tmp/rwlock ] || rm -f .dvc/tmp/rwlock

scm:                  ## lets DVC work without git where there is none, as in an unpacked zip file
	@if [ -e .git ]; then \
		! grep -qs no_scm .dvc/config.local || dvc config --local --unset core.no_scm; \
	elif ! grep -qs no_scm .dvc/config.local; then \
		dvc config --local core.no_scm true; \
		echo "No git here: runs have no commit, and 'dvc exp run' does not work. To have both: git init, git add ., git commit"; \
	fi

# three at a time: tests spend half of their time waiting for processes to start
PYTEST := python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

test: setup lint
	$(PYTEST) -m "not thorough"

test-thorough: setup  ## the other tests: nodes that die, rare failures, second checks of what `test` covers
	$(PYTEST) -m thorough

fuzz: setup           ## each reader of files and requests on NLA_FUZZ_EXAMPLES damaged ones
	NLA_FUZZ_EXAMPLES=$${NLA_FUZZ_EXAMPLES:-300} python -m pytest --numprocesses 2 tests/fuzz

soak: setup           ## an hour of kills at random moments over small trainings
	python tests/soak.py

mutants: setup        ## 500 small changes of the code, chosen at random: do the tests notice each?
	python tests/mutation.py

coverage: setup       ## branches of nla/ and pipelines/ that the tests of `test` run, in subprocesses and Ray's workers too
	python tests/branch_coverage.py $(COVERED)

check-performance: setup  ## the training loop relative to its limit, in one to two minutes
	python benchmarks/check.py

lint: setup
	ruff check .
	ruff format --check .
	mypy
	python -m nla.workflow.deps --check

deps: setup           ## the code lists of dvc.yaml, from what each stage imports
	python -m nla.workflow.deps --write

docs: setup           ## docs/api.md, from the docstrings, and docs/licences.md, from the packages' metadata
	python docs/build_api.py
	python docs/build_licences.py

build: setup          ## dist/: source distribution and wheel, checked as a package index would
	rm -rf dist build
	python -m build --no-isolation --outdir dist .
	twine check --strict dist/*

ui: setup             ## MLflow's pages for the local store, on 127.0.0.1
	mlflow ui --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}" --host 127.0.0.1 --port $${PORT:-5000}

lock: setup           ## requirements.lock from what is installed
	{ echo "# Every version that is tested together: make lock"; pip freeze --exclude-editable --all \
		| sed -e 's/^\(torch==[0-9.]*\)+cpu/\1/' -e '/^pip==/d' -e '/^#/d'; } > requirements.lock

clean:                ## removes what can be reproduced; data/raw, mlflow.db, mlruns and the records in git stay
	rm -rf .runs .logs run.json data/*.parquet models reports/audit/labels.parquet reports/audit/figures reports/audit/index.html reports/figures reports/plots reports/predictions reports/suspects.parquet reports/tune reports/registered.json reports/model_card
