# Two commands: `make run` and `make test`. Both install what they need into .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# An NVIDIA driver that answers decides between the GPU's and the CPU's requirements.
REQUIREMENTS := $(shell nvidia-smi -L >/dev/null 2>&1 && echo requirements.txt || echo requirements-cpu.txt)
APP_STAMP := $(VENV)/.installed-app
DEV_STAMP := $(VENV)/.installed-dev
ARGUMENTS := $(if $(PAIR),--pair $(PAIR)) $(if $(HOST),--host $(HOST)) $(if $(PORT),--port $(PORT)) $(if $(STATE_DIR),--state-dir $(STATE_DIR))

.PHONY: run test check test-unit test-service test-engine test-long test-browser bench screenshots clean

run: $(APP_STAMP)  ## Start the app: make run PAIR=embedded PORT=7860 STATE_DIR=…
	@$(BIN)/python app.py $(ARGUMENTS)

test: check test-unit test-service test-engine test-browser  ## Everything that CI runs

check: $(DEV_STAMP)  ## Format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test-unit: $(DEV_STAMP)  ## Pure Python, under 30 s
	$(BIN)/pytest -n 2 tests/unit tests/architecture

test-service: $(DEV_STAMP)  ## Real processes, SQLite, sockets
	$(BIN)/pytest -n 2 --dist loadfile tests/service

test-engine: $(DEV_STAMP)  ## Real vLLM on CPU with the embedded pair
	$(BIN)/pytest tests/engine -m "not long"

test-long: $(DEV_STAMP)  ## A quarter of an hour and more: a Ray cluster that loses nodes, one engine at a time, lm-eval in its own environment
	$(BIN)/pytest tests/engine -m long

test-browser: $(DEV_STAMP)  ## Real page, real engines, Chromium
	$(BIN)/python scripts/get_browser.py
	$(BIN)/pytest tests/browser

bench: $(APP_STAMP)  ## What the app costs against direct vLLM, in the same run
	$(BIN)/python scripts/bench.py
	$(BIN)/python scripts/bench_kl.py

screenshots: $(DEV_STAMP)  ## The README's pictures, from a running app
	$(BIN)/python scripts/get_browser.py
	$(BIN)/python scripts/screenshots.py

clean:  ## Remove the environment; records stay
	rm -rf $(VENV)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# One retry: where PyTorch's own pages can't be reached, pip asks them again for every package.
$(APP_STAMP): $(REQUIREMENTS) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --retries 1 -r $(REQUIREMENTS)
	$(BIN)/python -m compileall -q components app.py
	@touch $@

$(DEV_STAMP): requirements-dev.txt $(APP_STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
