# Every target sets up .venv when it is missing or older than the lock.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JOBS ?= 2
DATA := $(wildcard ../shared/data)
PYODIDE := $(wildcard ../shared/pyodide)

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

.PHONY: help book live pdf epub frameworks test lab lint notebooks paper ledger benchmark lock clean

help:  ## Say what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(READY): requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "revlearn needs Python 3.11 or newer; set PYTHON=…")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

book: $(READY)  ## Build the book into _build/html; warnings are errors
	$(BIN)/python tools/ledger.py --check
	$(BIN)/python tools/lite.py
	$(BIN)/jupyter-book build -W --keep-going --all .
	@echo "Open _build/html/index.html"

live: book  ## Run every chapter in the browser's Python, as a reader would (slow)
	$(BIN)/python tools/check_live.py

pdf: book  ## Print the built book to _build/revlearn.pdf (needs Chromium)
	$(BIN)/python tools/pdf.py

epub: $(READY)  ## Write the book to _build/revlearn.epub (needs Chromium)
	rm -rf _build/print/_build/epub
	$(BIN)/jupyter-book build -W --keep-going --builder custom --custom-builder epub --path-output _build/print .
	$(BIN)/python tools/epub.py

frameworks: $(READY)  ## Install JAX and PyTorch, for losses written in them, and numba
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-frameworks.txt

test: $(READY) lint book  ## Run all tests, of the built pages too, and every notebook
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup tests src
	$(BIN)/python -m pytest -n $(JOBS) --dist loadscope --nbval --nbval-current-env \
	  --nbval-cell-timeout 600 --nbval-sanitize-with tests/nbval_sanitize.cfg book

lint: $(READY)  ## Check style, types and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

lab: $(READY)  ## Open the notebooks
	TQDM_DISABLE=0 $(BIN)/jupyter lab book

notebooks: $(READY)  ## Execute and store the notebooks (one: NOTEBOOK=book/….ipynb)
	$(BIN)/python tools/notebooks.py --jobs $(JOBS) $(NOTEBOOK)

paper: $(READY)  ## Run the paper-scale experiments (one: FIGURE=chaos); they resume
	TQDM_DISABLE=0 $(BIN)/python tools/paper.py $(FIGURE)

ledger: $(READY)  ## Write the reproduction ledger from the stored results
	$(BIN)/python tools/ledger.py

benchmark: $(READY)  ## Measure time and memory beside JAX, PyTorch and autograd
	$(BIN)/python benchmarks/contenders.py --steps 300 --repeats 3 --fresh

lock:  ## Rewrite requirements.txt from pyproject.toml (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --extra book --extra test --no-emit-package revlearn \
	  --no-emit-index-url --custom-compile-command "make lock" --output-file requirements.txt pyproject.toml

clean:  ## Remove everything that was built or set up
	rm -rf $(VENV) _build .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
