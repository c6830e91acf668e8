# What people type. `make` alone lists it.
#
# Every target gets what it needs by itself (scripts/bootstrap); nothing has to be prepared.
# One cargo profile is built for all tests: dev. `run`, `build` and `bench` use release.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

# Where cargo puts what it builds.
TARGET := $(or $(CARGO_TARGET_DIR),target)
# On CI the lock file is the law; elsewhere a new dependency may still be added to it.
LOCKED := $(if $(CI),--locked)

SDK := sdks/typescript
WEB := web
PYTHON := .venv/bin/python
# Lints and format of what is written in Python.
ruff = $(PYTHON) -m ruff check --quiet $(1) && $(PYTHON) -m ruff format --quiet --check $(1)

# Which binary the tests start. For them only: the server takes no setting that it does not know.
test-blackbox test-crash test-attack test-autobahn test-browser conformance crash power: export CLARION_BIN ?= $(abspath $(TARGET)/debug/clarion)

# How long each target is fuzzed, and which.
FUZZ_SECONDS ?= 600
FUZZ_TARGETS ?= frames handshake deflate envelope token calls shards

# How many times as long as in `make test` each attack of `make attack` is.
ATTACK_SCALE ?= 10

# How often `make crash` kills the server: it takes a few minutes.
CRASH_ROUNDS ?= 200
# How many seeds of simulated nodes that are killed it runs then: two or three minutes.
SIM_CRASHES ?= 10000

ADDRESS ?= 127.0.0.1:8080
DATA ?= data

.PHONY: help
help: ## This list.
	@awk -F '## ' '/^[a-z-]+:.*## / { split($$1, name, ":"); printf "  make %-14s %s\n", name[1], $$2 }' $(MAKEFILE_LIST)

# People

.PHONY: run
run: build ## Build the web application and the server, and start it on http://localhost:8080.
	@echo
	@echo "  Clarion is at http://$(subst 127.0.0.1,localhost,$(ADDRESS)) - open it in two windows and chat."
	@echo "  Keys and data are in $(DATA)/. Stop it with Ctrl-C."
	@echo
	@exec $(TARGET)/release/clarion serve --config $(WEB)/chat.toml --listen $(ADDRESS) --data-dir $(DATA)

.PHONY: build
build: ## The release binary, web application included: target/release/clarion.
	@scripts/bootstrap rust node
	@$(MAKE) web
	cargo build $(LOCKED) --release -p clarion-server --bin clarion

# The server embeds what is in web/dist when it is compiled.
.PHONY: web
web: ## The web application: web/dist.
	@scripts/bootstrap node
	@$(MAKE) $(WEB)/dist/index.html

# It takes the SDK from source, so both decide whether it is out of date.
$(WEB)/dist/index.html: $(shell find $(WEB) $(SDK)/src -type f -not -path '*/node_modules/*' -not -path '*/dist/*' -not -path '*/test/*' 2>/dev/null)
	cd $(WEB) && npm run --silent build
	@touch $@

# Tests

.PHONY: check
check: ## Format, lints, and all tests of the crates: what to run before every commit.
	@scripts/bootstrap rust lint
	cargo fmt --all --check
	@scripts/invariants
	@scripts/sentences
	cargo clippy $(LOCKED) --quiet --workspace --all-targets -- -D warnings
	cargo test $(LOCKED) --quiet --workspace

.PHONY: test
test: check test-sdk test-web test-blackbox test-crash test-attack test-autobahn test-browser ## Everything that has to pass.
	@cat .cache/results/*

.PHONY: debug
debug: web
	cargo build $(LOCKED) --quiet --bin clarion

.PHONY: test-sdk
test-sdk:
	@scripts/bootstrap node
	cd $(SDK) && npm run --silent lint && npm run --silent typecheck && npm run --silent test
	cd $(SDK) && npm run --silent build && npm run --silent size

.PHONY: test-web
test-web: web
	cd $(WEB) && npm run --silent lint && npm run --silent typecheck && npm run --silent test

.PHONY: test-blackbox
test-blackbox: debug late-keys ## The real binary, through its sockets.
	@scripts/bootstrap python node
	$(call ruff,tests) && $(call ruff,--config tests/ruff.toml scripts/sentences benches/tls.py)
	$(PYTHON) -m pytest tests/blackbox

.PHONY: test-crash
test-crash: debug
	@scripts/bootstrap python node
	$(PYTHON) -m pytest tests/crash

.PHONY: power
power: debug late-keys ## Power loss, rehearsed 10,000 times on recordings of the server; some minutes.
	@scripts/bootstrap python
	CLARION_POWER_LOSSES=10000 CLARION_POWER_ROUNDS=60 $(PYTHON) -m pytest tests/blackbox/test_power.py -s

# A store with a planted bug. As a part of the workspace it needs few crates that are not built yet.
.PHONY: late-keys
late-keys:
	cargo build $(LOCKED) --quiet --workspace --features clarion-store-sqlite/__late_keys --example late_keys

.PHONY: test-attack
test-attack: debug
	@scripts/bootstrap python
	$(PYTHON) -m pytest tests/attack

.PHONY: test-autobahn
test-autobahn: debug autobahn-client
	@scripts/bootstrap autobahn
	$(PYTHON) tests/conformance/autobahn/conformance.py server --part
	$(PYTHON) tests/conformance/autobahn/conformance.py client --client $(TARGET)/debug/examples/autobahn_client --part

.PHONY: autobahn-client
autobahn-client:
	cargo build $(LOCKED) --quiet --package clarion-websocket --example autobahn_client

.PHONY: test-browser
test-browser: debug ## The web application in Chromium, against the real binary.
	@scripts/bootstrap node browser
	cd tests/browser && node_modules/.bin/biome check . && npm run --silent test

.PHONY: conformance
conformance: debug autobahn-client ## All of Autobahn, both roles; half an hour.
	@scripts/bootstrap autobahn
	$(PYTHON) tests/conformance/autobahn/conformance.py server
	$(PYTHON) tests/conformance/autobahn/conformance.py client --client $(TARGET)/debug/examples/autobahn_client

.PHONY: crash
crash: debug ## Kill the server CRASH_ROUNDS times under load, and check what its clients saw; then `make power`, and SIM_CRASHES simulated nodes.
	@scripts/bootstrap python node
	$(PYTHON) tests/crash/crash.py --rounds $(CRASH_ROUNDS)
	@$(MAKE) power
	CLARION_SIM_CRASHES=$(SIM_CRASHES) cargo test $(LOCKED) --quiet -p clarion-sim --test crashes promises

.PHONY: attack
attack: debug ## Attack the server ATTACK_SCALE times as long, and say how honest clients fared.
	@scripts/bootstrap python
	PYTHONPATH=tests/blackbox $(PYTHON) tests/attack/attack.py --scale $(ATTACK_SCALE)

.PHONY: fuzz
fuzz: ## Fuzz: ten minutes for each of FUZZ_TARGETS, or FUZZ_SECONDS.
	@scripts/bootstrap fuzz
	@for target in $(FUZZ_TARGETS); do \
		mkdir -p .cache/fuzz/$$target; \
		RUSTC_BOOTSTRAP=1 nice .cache/cargo/bin/cargo-fuzz fuzz run --target-dir $(abspath $(TARGET))/fuzz \
			$$target .cache/fuzz/$$target fuzz/seeds/$$target -- -max_total_time=$(FUZZ_SECONDS) \
			-max_len=2048 -timeout=20 -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1; \
	done

.PHONY: lint
lint: ## Formatters and linters of all languages, nothing else.
	@scripts/bootstrap rust lint node python
	cargo fmt --all --check
	cargo clippy $(LOCKED) --quiet --workspace --all-targets -- -D warnings
	@scripts/invariants
	@scripts/sentences
	cd $(SDK) && npm run --silent lint && npm run --silent typecheck
	cd $(WEB) && npm run --silent lint && npm run --silent typecheck
	cd tests/browser && node_modules/.bin/biome check .
	$(call ruff,tests) && $(call ruff,--config tests/ruff.toml scripts/sentences benches/tls.py)
	bash -n $(filter-out scripts/sentences,$(wildcard scripts/*)) .ci/run

.PHONY: bench
bench: ## Measure against the bare baselines; keep the machine quiet.
	@scripts/bootstrap rust
	cargo build $(LOCKED) --release -p clarion-server --bin clarion
	$(TARGET)/release/clarion bench compare --clarion $(TARGET)/release/clarion

.PHONY: bench-codec
bench-codec: ## Measure reading and writing frames against other libraries; a quiet machine is not needed.
	@scripts/bootstrap rust
	cargo run --quiet --release --manifest-path benches/codec/Cargo.toml --target-dir $(TARGET)/codec

.PHONY: bench-tls
bench-tls: ## Measure what TLS costs beside plain connections; three minutes, keep the machine quiet.
	@scripts/bootstrap rust python
	cargo build $(LOCKED) --release -p clarion-server --bin clarion
	CLARION_BIN=$(abspath $(TARGET))/release/clarion $(PYTHON) benches/tls.py

.PHONY: clean
clean: ## Remove everything that was built or installed here.
	cargo clean
	rm -rf .venv .cache $(SDK)/dist $(WEB)/dist
	rm -rf $(SDK)/node_modules $(WEB)/node_modules tests/*/node_modules tests/blackbox/node/node_modules
