# Skein's tasks. `make` lists them.
#
# Every build is --locked: it uses the versions of Cargo.lock or fails. Variables are set on the
# command line: `make sim SEEDS=5000`, `make run DATA=/tmp/skein`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO       ?= cargo
CARGO_FLAGS ?= --locked
TARGET      := $(or $(CARGO_TARGET_DIR),target)
SKEIN       := $(TARGET)/release/skein

# run: where the data goes, where clients connect, further arguments of `skein serve`.
DATA        ?= .build/data
LISTEN      ?= 127.0.0.1:9092
ARGS        ?=

# cluster: where the data and logs of the three nodes go; ARGS is for all of them.
CLUSTER     ?= .build/cluster

# sim: how many seeds, from which one on; or one SEED, with ARGS=--trace to see all of it, or
# ARGS=--shrink to see what its failure needs. ARGS=--coverage tells what the node did under which
# fault. With NODES=3 or 5 each seed is a whole cluster, which takes far longer. `make test` runs
# the few of TEST_SEEDS, and of TEST_CLUSTERS.
NODES       ?= 1
SEEDS       ?= 2000
FIRST_SEED  ?= 1
TEST_SEEDS  ?= 20
TEST_CLUSTERS ?= 3
SEED        ?=

# What judges the tests by Apache Kafka; built with the whole workspace, as all the tests are.
PARITY       = $(CARGO) test $(CARGO_FLAGS) --workspace

# The simulator needs a runtime that takes its random numbers from a seed; so it has a build of its
# own. The bugs on purpose are in it too, switched off: one build serves `sim` and `mutations`.
SIM_TARGET  := $(TARGET)/sim
SIM_FLAGS    = $(CARGO_FLAGS) --profile sim --package skein-sim --features mutations \
               --target-dir $(SIM_TARGET)
SIM_RUN      = RUSTFLAGS="--cfg tokio_unstable" $(CARGO) run $(SIM_FLAGS) --

# Loom replaces the locks and atomics under test with its own; tokio would follow, so the files
# under test have a workspace of their own.
LOOM_TARGET := $(TARGET)/loom

# fuzz: which target of crates/protocol/fuzz (decode, produce_stream), and for how long.
FUZZ_TARGET  ?= decode
FUZZ_SECONDS ?= 300

.PHONY: help
help: ## List the targets.
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' \
	  $(MAKEFILE_LIST)

.PHONY: build
build: ## Build the skein command, optimised, at target/release/skein.
	$(CARGO) build $(CARGO_FLAGS) --release --package skein

.PHONY: run
run: build ## Start a node for clients at 127.0.0.1:9092, with its data in .build/data.
	mkdir -p $(DATA)
	exec $(SKEIN) serve --set listeners=PLAINTEXT://$(LISTEN) --set log.dirs=$(DATA) $(ARGS)

.PHONY: cluster
cluster: build ## Start three nodes that are one cluster, with their data in .build/cluster.
	exec config/cluster.sh $(SKEIN) $(CLUSTER) $(ARGS)

# The tests take less time than optimising whole programs would.
test: export SKEIN_BIN := $(abspath $(TARGET))/checked/skein
test: export CARGO_PROFILE_SIM_LTO := off
test: export CARGO_PROFILE_SIM_CODEGEN_UNITS := 16
.PHONY: test
test: ## Run all tests: units, loom, real clients, a short simulation.
	# Two at a time: each has parts that keep one processor busy and no more.
	$(MAKE) --jobs=2 checked test-programs simulator
	$(MAKE) loom
	$(CARGO) test $(CARGO_FLAGS) --workspace
	$(PARITY) --test raw -- --ignored
	$(SIM_RUN) --seeds $(TEST_SEEDS) --first-seed $(FIRST_SEED) --coverage
	$(SIM_RUN) --nodes 3 --seeds $(TEST_CLUSTERS) --first-seed $(FIRST_SEED)
	$(SIM_RUN) --mutations

.PHONY: parity
parity: build ## Run the tests of real clients and tools against Apache Kafka too.
	$(PARITY) --test '*' -- --ignored kafka::

.PHONY: checked
checked:
	$(CARGO) build $(CARGO_FLAGS) --profile checked --package skein

.PHONY: test-programs
test-programs:
	$(CARGO) test $(CARGO_FLAGS) --workspace --no-run

.PHONY: simulator
simulator:
	RUSTFLAGS="--cfg tokio_unstable" $(CARGO) build $(SIM_FLAGS)

.PHONY: verify
verify: ## Check format, lints and tidiness. It changes no file and says what to do.
	@$(CARGO) fmt --all --check || { echo "verify: run 'cargo fmt --all'" >&2; exit 1; }
	$(CARGO) clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings
	$(CARGO) test $(CARGO_FLAGS) --package skein-tests --test tidy
	@echo "verify: format, lints and tidiness are fine; no file was changed"

.PHONY: sim
sim: ## Simulate SEEDS nodes, or clusters of NODES, with faults. SEED=7 ARGS=--trace shows one.
	$(SIM_RUN) --nodes $(NODES) $(if $(SEED),--seed $(SEED),--seeds $(SEEDS) --first-seed $(FIRST_SEED)) $(ARGS)

.PHONY: mutations
mutations: ## Break the simulated node, or cluster of NODES, in many ways: each must be found.
	$(SIM_RUN) --nodes $(NODES) --mutations $(ARGS)

.PHONY: loom
loom: ## Try every order of the hand-off between tasks and of the fetch waits.
	RUSTFLAGS="--cfg loom" $(CARGO) test $(CARGO_FLAGS) --release \
	  --manifest-path crates/broker/loom/Cargo.toml --target-dir $(LOOM_TARGET)

.PHONY: bench
bench: build ## Compare with Kafka in one run, and print the ratios. ARGS=--full compares more.
	$(CARGO) build $(CARGO_FLAGS) --release --package skein-tests --bins
	$(TARGET)/release/bench $(ARGS)

.PHONY: fuzz
fuzz: ## Feed the decoders arbitrary bytes for FUZZ_SECONDS (needs cargo-fuzz and nightly).
	cd crates/protocol && $(CARGO) +nightly fuzz run $(FUZZ_TARGET) -- \
	  -max_total_time=$(FUZZ_SECONDS)
