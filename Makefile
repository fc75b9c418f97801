# make demo    a machine that installs itself by PXE under UEFI, joins a cluster and runs a pod, in QEMU; the first run builds Kubernetes
# make test    format, lints, licences, unit tests, and the boots in QEMU
# make bench   beside what one would use instead; table and target/bench/result.json
# make faults  the fault matrix, and its table in docs/faults.md
# make fuzz    hostile input for every parser, FUZZ_SECONDS (60) a target; table, exit status 1 on a crash
# make lint    only the first three of `make test`
# make setup   Debian packages and the musl target; every other target calls it

CARGO_TARGET_DIR ?= $(CURDIR)/target
TATARA_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tatara
export CARGO_TARGET_DIR TATARA_CACHE

MUSL := x86_64-unknown-linux-musl
# The binaries that run on the machine: /init and tatara-node.
export TATARA_APPLIANCE_DIR := $(CARGO_TARGET_DIR)/$(MUSL)/appliance
# The command as users have it; the boots use it.
export TATARA_TOOL := $(CARGO_TARGET_DIR)/release/tatara
# Which of the many power cuts `make test` takes; `make faults` takes all.
TATARA_SEED ?= $(shell date +%s)
export TATARA_SEED
DENY := $(TATARA_CACHE)/tools/bin/cargo-deny

.PHONY: setup demo test bench faults fuzz lint appliance tool

setup:
	@scripts/setup

appliance: setup
	cargo build --locked --profile appliance --target $(MUSL) -p tatara-init -p tatara-firstboot -p tatara-checker

# `tatara image build` looks for the appliance's programs beside itself.
tool: appliance
	cargo build --locked --release --bin tatara
	ln -sf $(TATARA_APPLIANCE_DIR)/tatara-init $(TATARA_APPLIANCE_DIR)/tatara-node $(CARGO_TARGET_DIR)/release/

$(DENY):
	cargo install --locked --quiet cargo-deny --version 0.20.2 --root $(TATARA_CACHE)/tools

lint: setup $(DENY)
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	scripts/deny $(DENY)

# Unit and property tests first; then the boots: four small machines at a time, two of real Debian, of which those that join a cluster
# wait most of the time, and one where CPUs are measured.
test: lint appliance tool
	cargo test --locked --workspace --exclude tatara-tests
	cargo test --locked -p tatara-tests --test rules
	@echo "TATARA_SEED=$(TATARA_SEED) repeats this choice of power cuts"
	cargo test --locked -p tatara-tests --test faults --test install -- --test-threads=4
	cargo test --locked -p tatara-tests --test boot -- --test-threads=2
	cargo test --locked -p tatara-tests --test cluster -- --test-threads=2
	cargo test --locked -p tatara-tests --test tuning -- --test-threads=1

# Every row of the fault matrix, and the table of them.
faults: appliance tool
	rm -rf $(CURDIR)/target/faults
	TATARA_ALL=1 TATARA_FAULTS=$(CURDIR)/target/faults cargo test --locked -p tatara-tests --test faults -- --test-threads=4
	cargo run --locked --quiet -p tatara-tests --bin faults -- $(CURDIR)/target/faults $(CURDIR)/docs/faults.md

demo: appliance tool
	cargo run --locked --release --quiet -p tatara-tests --bin demo -- $(CURDIR)/target/demo

bench: appliance tool
	cargo run --locked --release --quiet -p tatara-tests --bin bench -- $(CURDIR)/target/bench

fuzz: setup
	scripts/fuzz $(TARGETS)
