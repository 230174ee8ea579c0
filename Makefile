# Four commands at home and in CI: demo, test, check, fix; docs builds the pages, bench writes docs/benchmarks.md.
# Nothing is needed but Python 3.11 or newer, make and pip.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --constraint constraints.txt
RUN_ENV := OMP_NUM_THREADS=1 BENTOML_DO_NOT_TRACK=True

.PHONY: demo test check fix docs bench clean
.DEFAULT_GOAL := demo

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "deploykit needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "== making $(VENV)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade pip

$(VENV)/.user: pyproject.toml constraints.txt | $(BIN)/python
	@echo "== installing what the demo needs (torch, onnxruntime, bentoml: a minute or two)"
	$(PIP) --editable '.[export,serve]'
	@touch $@

$(VENV)/.developer: $(VENV)/.user
	@echo "== installing what tests and checks need"
	$(PIP) --editable '.[all-cpu,dev,docs,tensorrt-rtx]'
	@# Only its model files and its own post-processing are wanted; its dependencies would bring a second OpenCV.
	$(PIP) --no-deps rapidocr-onnxruntime
	@touch $@

demo: $(VENV)/.user
	$(RUN_ENV) $(BIN)/deploykit demo

test: $(VENV)/.developer
	$(RUN_ENV) $(BIN)/python -m pytest -n 2 --dist loadscope --durations 10

check: $(VENV)/.developer
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(VENV)/.developer
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.developer
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open site/index.html"

bench: $(VENV)/.developer
	$(RUN_ENV) $(BIN)/python benchmarks/run_all.py

clean:
	rm -rf $(VENV) bundles runs dist site
