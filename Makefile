# TokenHub: `make run` is all that a first start needs; `make help` lists the rest.
# PROFILE=dev builds faster and runs slower; everything after `make run ARGS="..."` goes to `tokenhub up`.

SHELL := bash
PROFILE ?= release
ARGS ?=
.DEFAULT_GOAL := help
.PHONY: help run setup build test check bench chaos

help: ## Lists these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## Starts everything on this machine (flags of `tokenhub up` in ARGS)
	@PROFILE=$(PROFILE) exec scripts/run.sh $(ARGS)

setup: ## Installs Temporal and, without a provider, the local model into .venv
	@scripts/setup.sh

build: ## Builds the programs
	@cargo build --locked --profile $(PROFILE) -p tokenhub-hub -p tokenhub-worker -p tokenhub-api

test: ## Runs every test, on a real Temporal server
	@scripts/test.sh

chaos: ## Kills processes for half an hour while plans run (CHAOS_SEED=…; ARGS="part of a test's name" for some of it)
	@scripts/chaos.sh $(ARGS)

check: ## Formatting, lints and documentation
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items

bench: ## Measures, and fails when a bar is missed (ARGS="--quick" only tries the bench)
	@scripts/bench.sh $(ARGS)
