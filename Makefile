# Without make: type the lines below a target. Windows: .venv\Scripts\ in place of .venv/bin/.
PYTHON ?= python3
BIN := .venv/bin
PYTEST_ARGS ?=
# What is installed is compiled when it is first imported. The tests start Python some thousand times: without bytecode
# each start would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test bench clean

demo: .venv/ready
	$(BIN)/nomad-sessions demo

test: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers auto
	$(BIN)/pytest -n auto $(PYTEST_ARGS)

bench: .venv/ready
	$(BIN)/pip install --quiet --group bench
	$(BIN)/python -m benchmarks

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/pip install --quiet --no-compile --editable ".[all]" --group dev
	touch .venv/ready

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
