# make demo    a search over the sample gallery, from nothing but Python, make and git
# make test    everything that CI runs
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TYPES := $(VENV)/.types

export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Hundreds of processes import the same modules: each would compile them anew.
unexport PYTHONDONTWRITEBYTECODE

CHROMIUM ?= chromium
SHOT := --headless --no-sandbox --disable-gpu --disable-background-networking --disable-sync --hide-scrollbars

.PHONY: help demo test lint style clean picture
.DEFAULT_GOAL := help

help:
	@echo "make demo    install into $(VENV), ingest the sample gallery, search it"
	@echo "make test    install into $(VENV), lint, type check, run all tests"
	@echo "make lint    install into $(VENV), lint and type check only"
	@echo "make picture the demo's page as docs/demo.png, for the README (needs Chromium)"
	@echo "make clean   remove caches, builds and the demo's data; rm -r $(VENV) for the rest"
	@echo "PYTHON=python3.12 make ... takes another Python (3.11 or later)"

demo: $(STAMP)
	$(BIN)/clip-qdrant demo

# mypy takes one core for a minute at most, and the tests leave some idle: both at once, told one after the other.
test: style
	@$(BIN)/mypy > $(TYPES) 2>&1 & types=$$!; \
	$(BIN)/python -m pytest; tests=$$?; \
	wait $$types; types=$$?; cat $(TYPES); exit $$((tests | types))

lint: style
	$(BIN)/mypy

style: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

picture: demo
	$(CHROMIUM) $(SHOT) --window-size=1180,1080 --screenshot=docs/demo.png file://$(CURDIR)/demo-data/demo.html

# The stamp is written last, so an install that was cut short is done again. The first one takes minutes: torch.
# Not compiled, which would take a minute: most of the 24,000 modules are never imported, and the others compiled then.
# By a new pip: the one that comes with Python 3.11 takes a minute more to find out what fits together.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, not " + sys.version.split()[0] + "; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --no-compile -c constraints.txt pip
	$(BIN)/python -m pip install --no-compile -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf build dist demo-data *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
