# uqphys: `make help` lists what can be done. Needs Python >= 3.11, pip and make; everything else goes into $(VENV).
PYTHON  ?= python3
VENV    ?= .venv
WORKERS ?= 2

BIN     := $(VENV)/bin
READY   := $(VENV)/.ready
DEV     := $(VENV)/.ready-dev
BENCH   := $(VENV)/.ready-bench
SOURCES := settings.ini setup.py pyproject.toml constraints.txt
PIP     := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# laplace-torch asks for torchvision, which it does not need here and which would bring another torch.
LAPLACE := laplace-torch curvlinops-for-pytorch asdfghjkl backpack-for-pytorch einops einconv torchmetrics lightning-utilities unfoldnd

.PHONY: help demo test test-all bench docs notebooks export drift hooks clean
.DEFAULT_GOAL := help

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | awk -F'|' '{printf "%-16s %s\n", $$1, $$2}'

demo: $(READY) ## predict and correct a bias, and hold it against the exact answer (< 5 min)
	$(BIN)/uqphys demo

# One thread per process: two processes with two threads each would only get in each other's way.
test: export OMP_NUM_THREADS = 1
test: export MKL_NUM_THREADS = 1
test: export OPENBLAS_NUM_THREADS = 1
test: export MPLBACKEND = agg
test: $(DEV) ## run every notebook, then tests/ but the long ones that passed with the same sources (40 min on 2 slow cores)
	@status=0; \
	echo "== notebooks"; $(BIN)/nbdev_test --n_workers $(WORKERS) --timing || status=1; \
	echo "== tests"; $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(TESTS) || status=1; \
	exit $$status

test-all: ## the same with all tests; tests/passed.json is written anew (80 min)
	@$(MAKE) --no-print-directory test TESTS=--all

bench: $(BENCH) ## speed of the samplers and of Bayesian networks, beside their peers, each in one run (about an hour)
	$(BIN)/python studies/bench.py
	$(BIN)/python studies/sweep_speed.py
	$(BIN)/python studies/bench_last_layer.py
	$(BIN)/python studies/bench_bayes.py
	$(BIN)/python studies/bench_gp.py
	$(BIN)/python studies/bench_pathwise.py

docs: $(DEV) ## render the site to _site/ (Quarto where it is installed, else smalldocs)
	$(BIN)/python tools/docs.py

notebooks: $(DEV) ## export, execute every notebook from clean, store the outputs, make README.md (about 40 min)
	$(BIN)/nbdev_export
	$(BIN)/python tools/execute.py --budget 3600
	$(MAKE) --no-print-directory export

export: $(DEV) ## notebooks -> uqphys/ and README.md; strip the notebooks' metadata
	$(BIN)/nbdev_clean
	$(BIN)/nbdev_export
	$(BIN)/python tools/readme.py

drift: $(DEV) ## check that uqphys/, README.md and the notebooks agree
	$(BIN)/python tools/drift.py

hooks: $(DEV) ## let git clean and export on commit, and merge notebooks cell by cell
	git config core.hooksPath .githooks
	git config merge.nbdev-merge.name "merge notebooks with nbdev_merge"
	git config merge.nbdev-merge.driver "$(BIN)/nbdev_merge %O %A %B %P"

clean: ## remove what was generated, but not the virtual environment
	rm -rf build dist *.egg-info _proc _site demo results .pytest_cache .hypothesis
	find uqphys tests tools nbs -name __pycache__ -type d -prune -exec rm -rf {} +
	find nbs -name .ipynb_checkpoints -type d -prune -exec rm -rf {} +

# The set-up: once per $(VENV), and again when one of $(SOURCES) changes.
define venv
@command -v $(PYTHON) >/dev/null || { echo "uqphys needs Python 3.11 or newer, but there is no '$(PYTHON)': name one with make PYTHON=..."; exit 1; }
@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("uqphys needs Python 3.11 or newer, but $(PYTHON) is Python %d.%d: name another with make PYTHON=..." % sys.version_info[:2])'
@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
@echo "Installing into $(VENV) (a few minutes the first time)"
endef

$(READY): $(SOURCES)
	$(venv)
	@$(PIP) -e .
	@touch $@

$(BENCH): $(READY) $(SOURCES)
	@$(PIP) -e ".[bench]"
	@$(PIP) --no-deps $(LAPLACE)
	@touch $@

$(DEV): $(SOURCES)
	$(venv)
	@$(PIP) -e ".[dev]"
	@touch $(READY) $@
