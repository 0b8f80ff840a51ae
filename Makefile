# The two commands are `make run` and `make test`; both do all the set-up. As root, on Debian or Ubuntu.
SHELL := /bin/sh
CACHE := $(or $(METTLE_CACHE),$(HOME)/.cache/mettle)
export PATH := $(HOME)/.cargo/bin:$(CACHE)/go/bin:$(PATH)
# Outside the checkout: what every checkout compiles alike (400 crates) is compiled once a machine.
export CARGO_TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CACHE)/target)
METTLE := ./mettle
SUITE ?= experiments/suites/platform.yaml
# Nothing: the whole stack. A part of it: make run COMPONENTS=postgres,pgbouncer,redis,backend,backup SUITE=experiments/suites/quick.yaml
COMPONENTS ?=
OUT ?= out

# Another checkout took the directory over while we were at work: what it built is not what we test.
OURS := @[ "$$(cat $(CARGO_TARGET_DIR)/.checkout)" = "$(CURDIR)" ] || { echo "test: another checkout builds in $(CARGO_TARGET_DIR); wait for it, or set CARGO_TARGET_DIR" >&2; exit 4; }

.PHONY: run test bootstrap lint rules cached unit e2e sabotage down

## real Kubernetes, the stack, load, faults, a verdict, a report in $(OUT)
run: bootstrap
	$(METTLE) run $(SUITE) --up $(if $(COMPONENTS),--components $(COMPONENTS)) --out $(OUT)

# --workspace everywhere: another choice of packages is another choice of their dependencies' features, and half of
# everything would be compiled a second time.
## everything that CI runs: formatting, lints, unit and property tests, the fake and crash runs, the real cluster
test: bootstrap lint cached rules unit e2e

bootstrap:
	@./bootstrap.sh

lint:
	$(OURS)
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null 2>&1; then cargo deny --locked check; else echo "lint: cargo-deny is not installed: licences and advisories are not checked here"; fi

## every alert fires and resolves, every dashboard query is valid
rules:
	stack/monitoring-tests/check.sh

## Kubernetes, the stack's images and programs, once a machine; the promises' tests render the overlays with its kubectl
cached:
	$(METTLE) up --only cache

unit:
	$(OURS)
	cargo test --locked --workspace

## the tests that need root and a real cluster; they make clusters of their own names and leave nothing behind
e2e:
	$(OURS)
	cargo test --locked --workspace --lib netpol -- --ignored
	cargo test --locked --workspace --test netpol -- --ignored --test-threads=1
	cargo test --locked --workspace --test net -- --ignored --test-threads=1
	cargo test --locked --workspace --test e2e -- --ignored --test-threads=1 --nocapture

## the stack is made weak on purpose, again and again, and the right check has to fail (most of an hour; not part of `test`)
sabotage: bootstrap cached
	$(OURS)
	cargo test --locked --workspace --test sabotage -- --ignored --nocapture

## take the cluster of `make run` down
down:
	$(METTLE) down
