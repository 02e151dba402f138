# Needs only Python >= 3.10 and make. Everything is installed into .venv; other folders stay as they are.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help demo demo-speech test check clean
help:
	@echo "make demo   audit three small data sets and print a table (installs into $(VENV) first)"
	@echo "make demo-speech  the same with synthetic speech; installs espeak-ng into $(VENV) too"
	@echo "make test   run the tests"
	@echo "make check  linter, formatter, type checker"
	@echo "make clean  remove $(VENV) and what the other commands leave behind"

demo: $(VENV)/.installed
	$(BIN)/tocsin demo

demo-speech: $(VENV)/.installed
	$(PIP) install --quiet -c constraints.txt -e '.[demo-speech]'
	$(BIN)/tocsin demo --kind speech --out tocsin-demo-speech

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/.created:
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found; install Python 3.10 or newer, or name it: make demo PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "make: $(PYTHON) is $$($(PYTHON) -V 2>&1); tocsin needs 3.10 or newer: make demo PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "make: $(PYTHON) cannot make virtual environments; install its venv package (Debian and Ubuntu: apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	$(PIP) install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.created pyproject.toml constraints.txt
	$(PIP) install --quiet -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist tocsin-demo tocsin-demo-speech tocsin-report tocsin-bench
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
