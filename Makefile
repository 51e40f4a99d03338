# make demo        the main job on the shipped model    make test        everything but the slow tests
# make test-slow   the rest, minutes                   make test-wheel  a plain install, and the main job
# make fuzz        damaged files for every reader, N=100000 of them
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NEW := import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed: make PYTHON=python3.11')
TORCH := $(shell grep '^torch==' constraints.txt)

N ?= 100000

.PHONY: demo test test-slow test-wheel fuzz check notebooks figures clean

demo: $(VENV)/installed
	$(BIN)/workbench run --out runs/demo

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

test-slow: $(VENV)/installed-test
	$(BIN)/python -m pytest -m slow
	$(MAKE) test-wheel

# What a user gets who pins nothing. It needs a package index, so it is no test of pytest.
test-wheel: $(VENV)/installed
	$(BIN)/python tests/wheel.py

# Damaged files for every reader; the files of what is found are kept, for the tests to read again.
fuzz: $(VENV)/installed-test
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 PYTHONPATH=tests $(BIN)/python -m hostile.fuzz --n $(N) --keep tests/hostile/finds

check: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# An environment that is too old, or was left half made (no pip), is made anew. torch comes first and
# alone: a plain dependency would pull the newest CUDA build where a CPU build is set up.
$(VENV)/installed: pyproject.toml constraints.txt
	$(BIN)/python -c "import pip; $(NEW)" 2> /dev/null || { $(PYTHON) -c "$(NEW)" && $(PYTHON) -m venv --clear $(VENV); }
	$(BIN)/python -m pip install -q --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[test,png]"
	touch $@

# The .py is the source; outputs that somebody saved into an .ipynb are dropped.
notebooks: $(VENV)/installed-test
	$(BIN)/jupytext --quiet --update --to ipynb notebooks/*.py
	$(BIN)/jupyter nbconvert --log-level=ERROR --clear-output --inplace notebooks/*.ipynb

figures: $(VENV)/installed-test
	$(BIN)/workbench figures --out figures

clean:
	rm -rf $(VENV) runs build dist .pytest_cache .ruff_cache .hypothesis
