# make demo, make test: everything from nothing: virtual environment, packages, data. Needs Python 3.11 or newer, called $(PYTHON).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2

.PHONY: install demo test bench lint format clean

install: $(VENV)/installed

$(VENV)/installed: requirements.txt requirements-app.txt requirements-dev.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), f"Python 3.11 or newer is needed, this is {sys.version}; set PYTHON=..."'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -r requirements-dev.txt
	touch $@

demo: install
	$(BIN)/python demo.py

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# WORKERS test modules at a time, each on one thread.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --cov=tool --cov=network --cov=voc12 --cov-report=term --cov-fail-under=90

# On a quiet machine; BENCH="--voc12_root DIR" takes photographs instead of the sample, BENCH="--device cuda" a GPU.
bench: install
	$(BIN)/python -m benchmarks.run_all $(BENCH)

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .coverage
