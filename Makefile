# One word for each thing; `make check` before a commit, `make test` before a push (it is what CI runs).
.PHONY: help demo test fmt lint check doc deb bench drivers fuzz sim chaos

help:
	@echo "make demo    four real servers with Sluice in front, to play with (FLAVOUR=mysql for MySQL)"
	@echo "make test    everything CI runs: formatting, lints, unit tests, suites on MariaDB and on MySQL"
	@echo "make check   formatting, lints and unit tests only"
	@echo "make deb     a Debian package in target/debian"
	@echo "make drivers suites of real drivers and of MariaDB's own server, at the master and through Sluice"
	@echo "make fmt lint doc bench fuzz sim chaos"

demo:
	@tools/setup
	@if [ "$(FLAVOUR)" = mysql ]; then tools/setup mysql; fi
	@cargo build --quiet --release --locked --package sluice --package integration --bin sluice --bin sandbox
	@exec "$${CARGO_TARGET_DIR:-target}/release/sandbox" $(ARGS)

test:
	@tools/run-tests

check:
	@tools/run-tests --quick

fmt:
	@cargo fmt --all

lint:
	@cargo clippy --workspace --all-targets --locked -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny --log-level error check; else echo "cargo-deny is not installed (cargo install cargo-deny): licences and advisories were not checked"; fi

doc:
	@cargo doc --workspace --no-deps --locked

deb:
	@[ -n "$(PLAIN)" ] || tools/setup bench
	@PLAIN=$(PLAIN) tools/build-release
	@packaging/build-deb "$${CARGO_TARGET_DIR:-target}/shipped/sluice"

# Each of these runs what lies in integration/; the script says how to get what it lacks.
bench:
	@tools/setup bench
	@tools/run-part bench $(ARGS)

drivers:
	@tools/setup
	@tools/setup mysql
	@tools/setup drivers
	@tools/run-part drivers $(ARGS)

fuzz sim chaos:
	@tools/run-part $@ $(ARGS)
