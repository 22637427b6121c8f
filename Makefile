# Three commands matter: `make smoke` runs every stage in two minutes, `make ship` makes the model, `make test` proves it all.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
SET    ?=
SOAK   ?= 3000
WORKERS ?= 3  # test processes for two cores: many tests wait more than they compute

.PHONY: help smoke ship test soak up down setup lint clean
help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(VENV)/ship.stamp: requirements.lock pyproject.toml
	@echo "installing the locked packages into $(VENV) (first time: a few minutes)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .
# A path from .venv to src, not from the root: Python reads this file in the locale's encoding, and with LC_ALL=C a clone in a
# folder with other letters than ASCII would end every start of this environment. It also lets the clone move.
	@for d in $(VENV)/lib/python*/site-packages; do \
	  echo "import os; os.environ.setdefault('PREFECT_PLUGINS_ENABLED', 'true')" > "$$d/_slipway_prefect.pth"; done
	@[ "$(VENV)" != .venv ] || for f in .venv/lib/python*/site-packages/*_slipway.pth; do echo ../../../../src > "$$f"; done
# Where PYTHONDONTWRITEBYTECODE is set, as in many images, each of a run's processes would compile what it imports
	@$(BIN)/python -m compileall -q src tasks flows
	@touch $@

# Only what it adds: of the packages that are there pip would resolve each once more
$(VENV)/test.stamp: $(VENV)/ship.stamp requirements-test.lock
	grep -v '^-r' requirements-test.lock | \
	  $(BIN)/python -m pip install -q --disable-pip-version-check -c requirements.lock -r /dev/stdin
	@touch $@

setup: $(VENV)/ship.stamp  ## install the locked packages into .venv

smoke: setup  ## every stage for real on a few rows, in about two minutes, promoted to a target of its own
	$(BIN)/python -m slipway doctor --quiet
	PYTHON="$(CURDIR)/$(BIN)/python" infra/local/up
	$(BIN)/python -m slipway run --yes layers=smoke $(SET)

ship: setup  ## run the whole chain here; overrides: make ship SET="train.epochs=2"
	$(BIN)/python -m slipway doctor --quiet
	PYTHON="$(CURDIR)/$(BIN)/python" infra/local/up
	$(BIN)/python -m slipway run --yes $(SET)

up: setup  ## start Prefect, MLflow and a worker on loopback
	PYTHON="$(CURDIR)/$(BIN)/python" infra/local/up

down:  ## stop exactly those
	PYTHON="$(CURDIR)/$(BIN)/python" infra/local/down

lint: $(VENV)/test.stamp  ## ruff, mypy, import contracts
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

test: $(VENV)/test.stamp lint  ## lint, then the unit, flow and lab rooms
	$(BIN)/python -m slipway build-engine
	$(BIN)/python -m compileall -q src tasks flows tests/support  # processes that tests start read these
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --durations=15 \
	  tests/lab tests/flow tests/unit

soak: $(VENV)/test.stamp  ## 3,000 requests to llama-server (SOAK=n), 40 promotions and rollbacks under load: none fails
	SLIPWAY_SOAK_REQUESTS=$(SOAK) $(BIN)/python -m pytest tests/lab/engines/test_load.py
	SLIPWAY_SOAK_STEPS=all $(BIN)/python -m pytest tests/unit/streaming/test_directories.py -k killed
	SLIPWAY_SOAK_PROCESSORS=all $(BIN)/python -m pytest tests/flow/test_processors.py
	SLIPWAY_SOAK_FORMATS=all $(BIN)/python -m pytest tests/lab/quantization tests/flow/test_modelopt_parity.py
	SLIPWAY_SOAK_KILLS=all $(BIN)/python -m pytest -s tests/lab/deployment/test_spark.py -k killed
	SLIPWAY_SOAK_KILLS=all $(BIN)/python -m pytest tests/flow/test_stopping.py
	infra/lab/apt-install haproxy
	$(BIN)/python -m benchmarks.switching --work $${TMPDIR:-/tmp}/slipway-switching

clean:  ## remove the environment; artifacts in .slipway stay
	rm -rf $(VENV)
