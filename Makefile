# Everything a newcomer needs is a target here; each does its own set-up and says what it installs.

TARGET := $(or $(CARGO_TARGET_DIR),target)
export OVS_PREFIX ?= $(TARGET)/peers
export PEERS_PYTHON ?= $(TARGET)/peers-python
# 1: a test that finds no root, no namespaces or no Open vSwitch fails; 0: it is skipped and says so.
export VSWITCH_REQUIRE_ALL ?= 1

.PHONY: help build test test-xdp test-assist test-afxdp soak fuzz fuzz-in demo demo-clean bench bench-peers bench-ports bench-mtu clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

# FEATURES=vswitch/afxdp builds ports by the crate afxdp in, too.
build: ## the daemon and its command line, optimised, in target/release
	@tests/setup.sh build
	cargo build --release --bins -p vswitch -p vsctl $(if $(FEATURES),--features $(FEATURES))

test: ## formatting, lints and every test (root; a few minutes)
	@tests/setup.sh test
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo build --bins -p vswitch -p vsctl
	VSWITCH_BIN_DIR='$(abspath $(TARGET))/debug' OVS_PREFIX='$(abspath $(OVS_PREFIX))' PEERS_PYTHON='$(abspath $(PEERS_PYTHON))' cargo test --workspace
	VSWITCH_LAB_WORKERS=2 cargo test -p vswitch-tests --test 'scenario_*'
	@$(MAKE) --no-print-directory test-afxdp

test-afxdp: ## ports by the crate afxdp, which the tests above are without (root; two minutes)
	@tests/setup.sh test-afxdp
	cargo clippy -p datapath -p vswitch -p vswitch-tests --all-targets --features datapath/afxdp,vswitch-tests/afxdp -- -D warnings
	cargo test -p datapath --features afxdp --lib xdp
	cargo test -p datapath --features afxdp --test netns xdp
	cargo build --bins -p vswitch -p vsctl --features vswitch/afxdp
	VSWITCH_BIN_DIR='$(abspath $(TARGET))/debug' cargo test -p vswitch-tests --features afxdp --test netns_xdp_crate
	# What the other tests expect there.
	cargo build --bins -p vswitch -p vsctl

test-assist: ## the tests in network namespaces once more, with the kernel forwarding known flows (root; some minutes)
	@tests/setup.sh test
	cargo build --bins -p vswitch -p vsctl
	VSWITCH_TEST_ASSIST=1 VSWITCH_BIN_DIR='$(abspath $(TARGET))/debug' OVS_PREFIX='$(abspath $(OVS_PREFIX))' PEERS_PYTHON='$(abspath $(PEERS_PYTHON))' cargo test -p vswitch-tests --test 'netns_*'

# What it finds becomes an input in the corpus of its target, which `make test` replays.
SECONDS_EACH ?= 600
FUZZ := $(abspath $(TARGET))/fuzz
FUZZ_DATABASE := scanner values transact log
FUZZ_DATAPATH := too_big fragment

fuzz: ## bytes from libFuzzer into the parsers of the database and what answers packets, SECONDS_EACH=600 for each of six
	@tests/setup.sh fuzz
	@$(MAKE) --no-print-directory fuzz-in DIR=ovsdb/fuzz TARGETS='$(FUZZ_DATABASE)' MORE=-dict=ovsdb/fuzz/words.dict
	@$(MAKE) --no-print-directory fuzz-in DIR=datapath/fuzz TARGETS='$(FUZZ_DATAPATH)' MORE=-max_len=4096

fuzz-in:
	cargo fuzz build --fuzz-dir $(DIR) --sanitizer none --target-dir '$(FUZZ)'
	set -e; for target in $(TARGETS); do \
		mkdir -p '$(FUZZ)'/found/$$target '$(FUZZ)'/crashes/$$target; \
		TMPDIR=/dev/shm cargo fuzz run --fuzz-dir $(DIR) --sanitizer none --target-dir '$(FUZZ)' $$target \
			'$(FUZZ)'/found/$$target $(DIR)/corpus/$$target -- -max_total_time=$(SECONDS_EACH) -timeout=10 \
			$(MORE) -artifact_prefix='$(FUZZ)'/crashes/$$target/ -print_final_stats=1; \
	done

# Some tests want figures that an unoptimised switch only just reaches by AF_XDP.
test-xdp: ## the tests with real devices once more, every device by AF_XDP (root; a few minutes)
	@tests/setup.sh test
	cargo build --release --bins -p vswitch -p vsctl
	VSWITCH_TEST_IO=af_xdp VSWITCH_BIN_DIR='$(abspath $(TARGET))/release' OVS_PREFIX='$(abspath $(OVS_PREFIX))' \
		PEERS_PYTHON='$(abspath $(PEERS_PYTHON))' cargo test --release -p vswitch-tests --test 'netns_*'

soak: ## ten minutes of mixed load over AF_XDP ports while others come and go, SOAK_SECONDS=600 (root)
	@tests/setup.sh test
	cargo build --release --bins -p vswitch -p vsctl
	SOAK_SECONDS=$${SOAK_SECONDS:-600} VSWITCH_BIN_DIR='$(abspath $(TARGET))/release' cargo test -p vswitch-tests --test netns_xdp_soak -- --nocapture

demo: ## two tenants between two hosts, shown step by step (root); KEEP=1 leaves it up to play with
	@tests/setup.sh demo
	@$(MAKE) --no-print-directory build
	@BIN_DIR='$(abspath $(TARGET))/release' tests/demo.sh

demo-clean: ## removes what KEEP=1 make demo left up
	@tests/demo.sh clean

bench: ## side by side with the Linux bridge and the kernel's VXLAN (root; about three minutes)
	@tests/setup.sh bench
	@$(MAKE) --no-print-directory build
	VSWITCH_BIN_DIR='$(abspath $(TARGET))/release' cargo run --release -p vswitch-benches --bin side-by-side
	VSWITCH_BIN_DIR='$(abspath $(TARGET))/release' cargo run --release -p vswitch-benches --bin mirrored

# Choose with PEERS='--only vswitch,bridge,ovs --workload tcp,packets', or PEERS=--quick.
bench-peers: ## side by side with every switch that is here, Open vSwitch among them, with charts (root; ten minutes)
	@tests/setup.sh peers
	@$(MAKE) --no-print-directory build FEATURES=vswitch/afxdp
	VSWITCH_BIN_DIR='$(abspath $(TARGET))/release' OVS_PREFIX='$(abspath $(OVS_PREFIX))' VSWITCH_REQUIRE_ALL=0 \
		cargo run --release -p vswitch-benches --bin peers -- --out '$(TARGET)/bench-peers' $(PEERS)

bench-ports: ## 1,000 ports added one by one, Open vSwitch beside us, which slows down (root; up to ten minutes)
	@tests/setup.sh test
	@$(MAKE) --no-print-directory build
	VSWITCH_BIN_DIR='$(abspath $(TARGET))/release' OVS_PREFIX='$(abspath $(OVS_PREFIX))' cargo run --release -p vswitch-benches --bin add-ports

bench-mtu: ## TCP through tunnels too small for the pods, Open vSwitch beside us, which stalls (root; about four minutes)
	@tests/setup.sh test
	@$(MAKE) --no-print-directory build
	VSWITCH_BIN_DIR='$(abspath $(TARGET))/release' OVS_PREFIX='$(abspath $(OVS_PREFIX))' cargo run --release -p vswitch-benches --bin black-hole

clean: ## removes what was built and unpacked
	cargo clean
