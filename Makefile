# `make demo`: from a fresh clone to diverse completions. `make test`: to green tests.

# The first Python on the path that runs and is 3.11 to 3.14; `make PYTHON=...` for another.
IS_SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c '$(IS_SUPPORTED)' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
RUN := $(VENV)/bin/python
DEMO := out/demo

.PHONY: setup demo test test-slow test-browser lint clean

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.txt pyproject.toml
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(IS_SUPPORTED)' || { \
		echo "Python 3.11 to 3.14 is needed: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --editable . --progress-bar on
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(RUN) -m pip install --quiet --editable '.[test]'
	touch $@

# Eight photographs that come with the package, each with its face hidden.
demo: setup
	$(RUN) evaluate.py --workdir=faces64 --output=$(DEMO)/report.json \
		--config.data.source=folder:uctgan_jax/portraits --config.mask.kind=center \
		--config.mask.hole_share='(0.25, 0.25)' --config.eval.num_examples=8
	@echo
	@echo "Look at $(DEMO)/contact_sheet.png. Eight pictures are too few for the figures to tell much."

# The files that take longest come first: two workers then end together.
LONGEST := tests/test_training.py tests/test_train_step.py
TESTS := $(LONGEST) $(filter-out $(LONGEST) tests/__pycache__/,$(wildcard tests/test_*.py tests/*/))

test: $(VENV)/.installed-test
	$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=15 $(TESTS)

test-slow: $(VENV)/.installed-test
	$(RUN) -m pytest -n 2 --dist loadfile -m slow --durations=15

# Debian and Ubuntu have it as a package: apt-get install chromium
test-browser: $(VENV)/.installed-test
	$(RUN) -m pytest -m browser tests/web/browser

lint: $(VENV)/.installed-test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

clean:
	rm -rf $(VENV) out
