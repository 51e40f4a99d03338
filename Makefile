# make demo   the main job on the shipped model        make test   everything but the slow tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := $(shell grep '^torch==' constraints.txt)

.PHONY: demo test test-slow check notebooks figures clean

demo: $(VENV)/installed
	$(BIN)/workbench run --out runs/demo

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

test-slow: $(VENV)/installed-test
	$(BIN)/python -m pytest -m slow

check: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# torch comes first and alone: a plain dependency would pull the newest CUDA build where a CPU build
# is set up.
$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed: make PYTHON=python3.11')"
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
