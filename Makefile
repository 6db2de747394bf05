# The one front door. Every target sets up .venv by itself and is quick the second time.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
ONLY   ?=

# Where it is set, each of the many processes that the tests start compiles all of our source anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test test-ci test-slow check bench docs clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing Hospitium and what it needs into $(VENV) (a few minutes the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)

demo: $(READY)
	$(BIN)/hospitium demo --out demo-report

test: $(READY)
	$(BIN)/python -m pytest -n 3 --dist worksteal -m "not ci and not slow and not gpu"

test-ci: $(READY)
	@.ci/install-servers || true
	$(BIN)/python -m pytest -n 3 --dist worksteal --timeout 540 -m "ci and not slow and not gpu"

test-slow: $(READY)
	$(BIN)/python -m pytest --timeout 20000 -m "slow and not gpu"

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(READY)
	@$(BIN)/python -m bench $(if $(ONLY),--only $(ONLY))

docs: $(READY)
	$(BIN)/python docs/write_reference.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
