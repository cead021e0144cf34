# Without make: type the lines below a target. Windows: .venv\Scripts\ in place of .venv/bin/.
PYTHON ?= python3
BIN := .venv/bin
PYTEST_ARGS ?=

.PHONY: demo test bench clean

demo: .venv/ready
	$(BIN)/nomad-sessions demo

test: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n auto $(PYTEST_ARGS)

bench: .venv/ready
	$(BIN)/pip install --quiet --group bench
	$(BIN)/python -m benchmarks

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/pip install --quiet --editable ".[all]" --group dev
	touch .venv/ready

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
