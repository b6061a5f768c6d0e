# make repro: install, then everything that the report is made of. make test: lint, types, tests.
PYTHON ?= python3
TORCH_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: repro test advise attack lint types install bench ui dashboard clean
.DEFAULT_GOAL := repro

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q $(TORCH_ARGS) -c constraints.txt -e ".[dev]"
	$(BIN)/python experiments/plots_page.py
	touch $@

repro: install
	git rev-parse --is-inside-work-tree >/dev/null 2>&1 || git init -q
	$(BIN)/dvc repro

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: install
	$(BIN)/mypy

test: lint types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# Damaged files of every format, and every command killed at each of its writes: minutes.
attack: install
	$(BIN)/python -W ignore -m tests.support.attack

# The best ways to 2x, 3x and 5x, of everything that there is: half an hour a model. Leave the machine alone.
advise: install
	$(BIN)/ddit-eval advise experiments/quick.yaml --workers 2
	$(BIN)/ddit-eval advise experiments/quick-video.yaml --workers 2

bench: install
	$(BIN)/python experiments/bench.py
	$(BIN)/python experiments/bench_clock.py

# Loopback only; one worker and no job runner make it start in seconds.
# MLflow opens on its view for language models; the runs are under "Model training".
ui: install
	@echo "runs: http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning"
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db \
		--host 127.0.0.1 --port 5000 -w 1

dashboard: install
	$(BIN)/python experiments/dashboard.py

clean:
	rm -rf runs .state mlflow.db mlartifacts
