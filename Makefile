# `make serve` and `make test` do all the set-up there is.
.PHONY: serve test lint bench

CARGO ?= cargo

## Runs the server with the shipped configuration on SQLite; the first start makes keys and secrets.
serve:
	$(CARGO) run --release --bin pmp-auth -- serve --config config.yaml

## Installs what the tests need, then runs them all.
test:
	scripts/install-test-deps
	scripts/test-sdks
	$(CARGO) test --locked --workspace

## Formatting, lints, documentation; licences, bans and sources where cargo-deny is installed.
lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items --quiet
	@if command -v cargo-deny >/dev/null; then cargo-deny check licenses bans sources; \
	else echo "cargo-deny is not installed: licences, bans and sources were not checked"; fi

## What each operation costs, beside a floor; see docs/benchmarks.md.
bench:
	scripts/install-test-deps bench
	$(CARGO) bench --locked --profile dist --bench load
