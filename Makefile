# The same targets for people and for CI; each does its own set-up.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.setup

.PHONY: setup demo test lint bench soak lock clean

setup: $(SETUP)

# torch first, from a lock file of its own: TORCH="torch==2.13.0 --index-url URL" puts another build (CPU only) in its place
$(SETUP): pyproject.toml torch.lock requirements.lock test.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(if $(TORCH),$(TORCH),--require-hashes -r torch.lock)
	$(BIN)/pip install --quiet --require-hashes -r test.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m worker warm
	touch $@

demo: setup
	$(BIN)/foldcast demo

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# exact versions with hashes; torch.lock holds torch and what it brings, the others leave that out; test.lock = requirements.lock + test tools
lock:
	$(BIN)/pip install --quiet uv
	echo 'torch==2.13.0' | $(BIN)/uv pip compile - $(LOCK_FLAGS) -o torch.lock
	$(BIN)/uv pip compile pyproject.toml $(LOCK_FLAGS) -c torch.lock $(IN_TORCH) -o requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra test $(LOCK_FLAGS) -c torch.lock -c requirements.lock $(IN_TORCH) -o test.lock

LOCK_FLAGS = --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet --python-version 3.11
IN_TORCH = $(shell sed -n 's/^\([a-z0-9-]*\)==.*/--no-emit-package \1/p' torch.lock)

clean:
	rm -rf $(VENV) .cache build *.egg-info
