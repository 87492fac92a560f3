# Every target sets up .venv when it is missing or older than the lock.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JOBS ?= 2
DATA := $(wildcard ../shared/data)
PYODIDE := $(wildcard ../shared/pyodide)
SKIPPED := _build/skipped
EXTRAS := bayesian cluster data progress widgets

# One thread: the number of threads changes last bits. No progress bars in stored outputs.
export OPENBLAS_NUM_THREADS := 1
export OMP_NUM_THREADS := 1
export TQDM_DISABLE := 1
export PYTHONHASHSEED := 0
export PYDEVD_DISABLE_FILE_VALIDATION := 1
ifdef DATA
export REVLEARN_DATA ?= $(abspath $(DATA))
endif
ifdef PYODIDE
export REVLEARN_PYODIDE ?= $(abspath $(PYODIDE))
endif

.PHONY: help book live pdf epub frameworks test test-frameworks wheel lint lab notebooks paper ledger benchmark lock clean

# What it does | what it needs beside .venv | how long it takes on two cores, once .venv is there.
help:  ## Say what there is | nothing | a moment
	@echo "All but help, lock and clean need Python 3.11 or newer. The first of them sets up .venv:"
	@echo "network, 1.2 GB of disk, 2 minutes."
	@awk -F ' *(## *|[|]) *' '/^[a-z-]+:.*## / { sub(/:.*/, "", $$1); \
	  printf "\n%-16s %s\n%-16s needs %s; %s\n", $$1, $$2, "", $$3, $$4 }' $(MAKEFILE_LIST)

$(READY): requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "revlearn needs Python 3.11 or newer; set PYTHON=…")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

book: $(READY)  ## Build the book into _build/html; warnings are errors | network the first time | 2 minutes
	$(BIN)/python tools/ledger.py --check
	$(BIN)/python tools/lite.py
	$(BIN)/jupyter-book build -W --keep-going --all .
	@echo "Open _build/html/index.html"

live: book  ## Run every chapter in the browser's Python, as a reader would | Chromium, REVLEARN_PYODIDE or network | 20 minutes
	$(BIN)/python tools/check_live.py

pdf: book  ## Print the built book to _build/revlearn.pdf | Chromium | 3 minutes
	$(BIN)/python tools/pdf.py

epub: $(READY)  ## Write the book to _build/revlearn.epub | Chromium, network the first time | 40 seconds
	rm -rf _build/print/_build/epub
	$(BIN)/jupyter-book build -W --keep-going --builder custom --custom-builder epub --path-output _build/print .
	$(BIN)/python tools/epub.py

frameworks: $(READY)  ## Install JAX and PyTorch, for losses written in them, and numba | network, 3 GB of disk | 2 minutes
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-frameworks.txt

test: $(READY) lint book  ## Run all tests, of the built pages too, and every notebook | Chromium, or the pages are not tested | 30 minutes
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup --skipped-to $(SKIPPED)/test.json tests src
	$(BIN)/python -m pytest -n $(JOBS) --dist loadscope --nbval --nbval-current-env \
	  --nbval-cell-timeout 600 --nbval-sanitize-with tests/nbval_sanitize.cfg book

$(SKIPPED)/test.json:
	@echo "run make test first: it writes down what it skips" && false

test-frameworks: $(SKIPPED)/test.json frameworks  ## Run again what make test skipped, now with JAX, PyTorch and numba | make test before, network | 5 minutes
	$(BIN)/python tools/skipped.py --names $(SKIPPED)/test.json > $(SKIPPED)/names
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup --skipped-to $(SKIPPED)/test-frameworks.json @$(SKIPPED)/names

wheel: $(READY)  ## Build the package for an index, and try the wheel alone on each Python found | network | 3 minutes
	$(BIN)/python tools/wheel.py

lint: $(READY)  ## Check style, types and spelling | nothing | half a minute
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

lab: $(READY)  ## Open the notebooks | a browser | as you like
	TQDM_DISABLE=0 $(BIN)/jupyter lab book

notebooks: $(READY)  ## Execute and store the notebooks (one: NOTEBOOK=book/….ipynb) | nothing | 6 minutes
	$(BIN)/python tools/notebooks.py --jobs $(JOBS) $(NOTEBOOK)

paper: $(READY)  ## Run the paper-scale experiments (one: FIGURE=chaos); they resume | REVLEARN_DATA or network | 8 hours
	TQDM_DISABLE=0 $(BIN)/python tools/paper.py $(FIGURE)

ledger: $(READY)  ## Write the reproduction ledger from the stored results | nothing | 2 seconds
	$(BIN)/python tools/ledger.py

benchmark: $(READY)  ## Measure time and memory beside JAX, PyTorch and autograd | make frameworks, or those not installed are left out | 10 minutes
	$(BIN)/python benchmarks/contenders.py --steps 300 --repeats 3 --fresh

lock:  ## Rewrite requirements.txt from pyproject.toml | uv, network | 10 seconds
	uv pip compile --quiet --universal --python-version 3.11 $(EXTRAS:%=--extra %) --group book --group test \
	  --no-emit-package revlearn --no-emit-index-url --custom-compile-command "make lock" --output-file requirements.txt pyproject.toml

clean:  ## Remove everything that was built or set up | nothing | a moment
	rm -rf $(VENV) _build .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
