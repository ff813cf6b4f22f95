# The façade: each target is a line or two; `make help` lists them.
# demo, build, test, soak, train and check share one set of features, so that nothing is compiled twice (tests/architecture
# checks it); test-gpu, test-parquet, bench, bench-functions, mutants and functions select packages.

TOOLS ?= $(or $(TWINSCALER_TOOLS),$(CURDIR)/target/tools)
TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
# what the demo runs
PROGRAMS := e2e twinscaler evaluator executor
export TWINSCALER_TOOLS := $(TOOLS)

.DEFAULT_GOAL := help
.PHONY: help tools build demo test test-gpu test-parquet soak mutants bench bench-functions traces check fmt train functions deploy destroy

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

tools: ## set up the emulators, Graphite and cargo-lambda in a virtual environment
	@sh tests/localcloud/setup.sh $(TOOLS)

build: ## build every program for this machine
	cargo build --locked --workspace --bins

demo: ## show the whole system at work on local parts, and write target/demo/report.html
	@echo "make demo, step 1 of 3: Python environments for the emulators and Graphite (a minute or two the first time)"
	@sh tests/localcloud/setup.sh $(TOOLS) cloud graphite
	@echo "make demo, step 2 of 3: build the two functions, the twinscaler command and the demo (10 to 20 minutes the first time, on two cores)"
	@cargo build --locked $(addprefix -p ,$(PROGRAMS)) --bins
	@echo "make demo, step 3 of 3: run it (about two minutes)"
	@$(TARGET)/debug/demo $(DEMO)

nextest = $(shell command -v cargo-nextest || echo $(TOOLS)/bin/cargo-nextest)

$(TOOLS)/bin/cargo-nextest:
	cargo install --locked --debug --root $(TOOLS) cargo-nextest@0.9.143

test: tools $(nextest) test-parquet ## run all tests
	PATH="$(TOOLS)/bin:$$PATH" cargo nextest run --locked --workspace --no-fail-fast

test-gpu: ## train a few steps on a GPU or a software Vulkan (Debian: mesa-vulkan-drivers); a build of its own
	XDG_RUNTIME_DIR="$${XDG_RUNTIME_DIR:-$$(mktemp -d)}" CARGO_TARGET_DIR=$(TARGET)/gpu \
	  cargo test --locked -p twinscaler --features gpu --test gpu --test gpu_lost

test-parquet: ## test the import of Parquet traces (part of test); no program has it by default
	cargo test --locked --workspace --features traces/parquet --test parquet

SEEDS ?= 20000

soak: build ## run SEEDS seeds (20 000) of the simulation, three profiles, and count what happened
	$(TARGET)/debug/simulate soak --seeds $(SEEDS)

cargo_mutants = $(shell command -v cargo-mutants || echo $(TOOLS)/bin/cargo-mutants)

$(TOOLS)/bin/cargo-mutants:
	cargo install --locked --root $(TOOLS) cargo-mutants@27.1.0

# what is changed is compiled without optimisation: that takes most of the time
mutants: $(cargo_mutants) ## change the controller's core line by line: each change must fail a test (docs/reference/mutants.md)
	mkdir -p $(TARGET)
	PATH="$(TOOLS)/bin:$$PATH" cargo mutants -j1 -p controller --test-package controller \
	  --cargo-arg=--config=profile.dev.package.controller.opt-level=0 -o $(TARGET)/mutants \
	  $(foreach part,guard plan check earlier reconcile reconcile/drain reconcile/resume reconcile/suspects offering audit money health series,-f crates/controller/src/$(part).rs)

traces: ## fetch a real log of 51 987 jobs to import, into target/traces
	@sh crates/traces/fetch.sh $(TARGET)/traces

bench: ## measure the twin: steps, episodes on one and two threads, a run of ten million tasks
	cargo bench --locked -p twin

# pinned and ahead of others where that is allowed; the functions themselves run on core 0
alone = taskset -c $(shell echo $$(($$(nproc) - 1))) $(shell nice -n -18 true 2>/dev/null && echo nice -n -18)

bench-functions: tools ## measure both functions as they are deployed: ticks, cold starts, inference, memory, size
	cargo build --locked --release -p evaluator --bin evaluator -p executor --bin executor -p speed --bin speed
	$(alone) $(TARGET)/release/speed

deny = $(shell command -v cargo-deny || echo $(TOOLS)/bin/cargo-deny)

$(TOOLS)/bin/cargo-deny:
	cargo install --locked --debug --root $(TOOLS) cargo-deny@0.20.2

check: tools $(deny) ## formatting, lints, documentation, licences and sources, the template
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet
	PATH="$(TOOLS)/bin:$$PATH" cargo deny --locked check bans licenses sources
	$(TOOLS)/cloud/bin/cfn-lint infra/template.yaml

fmt: ## format the code
	cargo fmt --all

train: build ## train the policy that new pools start with, again
	$(TARGET)/debug/twinscaler train --workload paper:both application bags varied --machines-per-action 1,4 --also-ec2 \
	  --config trainer/settings/shipped.toml --seed 2 --device cpu --out policies/initial

functions: tools ## build both functions for AWS, arm64, as zips
	PATH="$(TOOLS)/cloud/bin:$$PATH" cargo-lambda lambda build --release --arm64 --output-format zip \
	  -p evaluator --bin evaluator -p executor --bin executor

deploy: functions ## deploy the stack with AWS SAM (infra/samconfig.toml)
	cd infra && sam deploy

destroy: ## delete the stack; tables and bucket stay
	cd infra && sam delete
