# The same targets for people and for CI; each does its own set-up.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.setup
CHARTS := worker/http/page/library/uPlot.js.gz

.PHONY: setup demo test faults soak fuzz bench base lint lock sbom clean

setup: $(SETUP) $(CHARTS)

# What the page of a worker draws with: not ours, so fetched, by its hash, and anew where that changes
$(CHARTS): worker/demo/charts.py | $(SETUP)
	$(BIN)/python -m worker.demo.charts
	touch $@

# Torch comes first, from a lock file of its own, so that another build can take its place:
# make setup TORCH="torch==2.13.0 --index-url URL"
$(SETUP): pyproject.toml torch.lock test.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(if $(TORCH),$(TORCH),--require-hashes -r torch.lock)
	$(BIN)/pip install --quiet --require-hashes -r test.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/foldcast warm
	touch $@

demo: setup
	$(BIN)/foldcast demo

# With FOLDCAST_KAFKA__CLIENT=librdkafka all that needs a real Kafka has workers of that client; so with faults and soak
# Two files of tests at a time, since half of them wait for a broker; one test: .venv/bin/python -m pytest FILE
test: setup
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# Some 150 faults of every kind in 45 minutes, then an audit of everything: make faults FAULTS="--seed 7 --minutes 10"
faults: setup
	$(BIN)/python -m tests.faults.mixed $(FAULTS)

# A short round of what costs time, several minutes on two cores; docs/benchmarks.md has the long ones.
# make bench PEERS=1: foldcast beside what else one would use, half an hour and more
PEER_VENVS := $(patsubst %,.cache/peers-%/.installed,streaming forecasting volatility)
LEARNING := --variant off FOLDCAST_FINE_TUNE__ENABLED=false --variant on FOLDCAST_FINE_TUNE__ENABLED=true
bench: setup $(if $(PEERS),$(PEER_VENVS))
ifdef PEERS
	$(BIN)/python tests/bench/bench_peers.py
	$(BIN)/python tests/bench/bench_peers_accuracy.py
	$(BIN)/python tests/bench/bench_peers_widths.py
else
	$(BIN)/python tests/bench/bench_fold.py --runs 3
	$(BIN)/python tests/bench/bench_restore.py --runs 3
	$(BIN)/python tests/bench/bench_drain.py --runs 2 $(LEARNING)
	$(BIN)/python tests/bench/bench_latency.py --runs 2 --seconds 10 --events 60000 $(LEARNING)
endif

# Peers have virtual environments of their own; those on Kafka take torch alone from ours
.cache/peers-%/.installed: tests/bench/peers/%.lock
	$(PYTHON) -m venv --clear .cache/peers-$*
	.cache/peers-$*/bin/pip install --quiet --require-hashes -r $<
	touch $@

# The weights that a worker begins with, from nothing: docs/base.md says of what. Seeds and packages are pinned. One
# process, within an hour; Ctrl-C keeps what is there, and the same goes on.
base: setup
	mkdir -p .cache
	for cell in gru lstm; do \
	    FOLDCAST_MODEL__CELL=$$cell FOLDCAST_MODEL__HORIZONS="[$$(seq -s, 48)]" \
	    $(BIN)/foldcast pretrain --corpus --out .cache/base-$$cell.safetensors && \
	    mv .cache/base-$$cell.safetensors worker/ || exit 1; \
	done

# An hour of traffic and faults; SOAK="--minutes 10" for less, --help for all that can be set.
soak: setup
	$(BIN)/python tests/soak/soak.py $(SOAK)

# Each target for so long, one after the other; ends with the first find, docs/security.md says what to do with it
FUZZ_S ?= 180
fuzz: setup
	$(BIN)/pip install --quiet --require-hashes -r fuzz.lock
	for target in $$($(BIN)/python -m tests.security.fuzz); do \
		$(BIN)/python -m tests.security.fuzz $$target .cache/fuzz/$$target -max_total_time=$(FUZZ_S) || exit 1; \
	done

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Exact versions with hashes. torch.lock holds torch and what it brings, the others leave that out;
# requirements.lock is what an image needs, test.lock the same and the test tools, fuzz.lock the fuzzer alone,
# sbom.lock what writes the bill of materials, the bench's own what foldcast is measured beside.
LOCK := --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet --python-version 3.11
lock: setup
	$(BIN)/pip install --quiet uv
	echo 'torch==2.13.0' | $(BIN)/uv pip compile - $(LOCK) -o torch.lock
	echo 'atheris==3.0.0' | $(BIN)/uv pip compile - $(LOCK) -o fuzz.lock
	echo 'cyclonedx-bom==7.5.0' | $(BIN)/uv pip compile - $(LOCK) -o sbom.lock
	printf '%s\n' quixstreams==3.28.1 faust-streaming==0.15.3 orjson==3.13.0 numpy==2.4.6 | \
		$(BIN)/uv pip compile - $(LOCK) -o tests/bench/peers/streaming.lock
	printf '%s\n' statsforecast==2.1.1 mlforecast==1.1.0 lightgbm==4.7.0 river==0.26.1 | \
		$(BIN)/uv pip compile - $(LOCK) -o tests/bench/peers/forecasting.lock
	echo 'arch==8.0.0' | $(BIN)/uv pip compile - $(LOCK) -o tests/bench/peers/volatility.lock
	without=$$(sed -n 's/^\([a-z0-9-]*\)==.*/--no-emit-package \1/p' torch.lock); \
	$(BIN)/uv pip compile pyproject.toml $(LOCK) -c torch.lock $$without -o requirements.lock; \
	$(BIN)/uv pip compile pyproject.toml --extra test $(LOCK) -c torch.lock -c requirements.lock $$without -o test.lock

# What an image holds of Python packages, with their hashes: a bill of materials as CycloneDX has it.
SBOM := .cache/sbom-venv/bin
sbom:
	$(PYTHON) -m venv .cache/sbom-venv
	$(SBOM)/pip install --quiet --require-hashes -r sbom.lock
	mkdir -p dist
	cat torch.lock requirements.lock | $(SBOM)/cyclonedx-py requirements - --pyproject pyproject.toml \
		--mc-type application --output-reproducible --of JSON -o dist/foldcast.cdx.json

clean:
	rm -rf $(VENV) .cache build *.egg-info $(dir $(CHARTS))
