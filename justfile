# The commands of this house. Without `just`, run the lines by hand.

check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

test:
    cargo test --workspace

loom:
    RUSTFLAGS="--cfg loom" cargo test -p pagecache --lib --features canary --target-dir target/loom models -- --nocapture

schedules:
    RUSTFLAGS="--cfg shuttle -D warnings" cargo test -p pagecache-sim --test schedules --target-dir target/shuttle -- --nocapture

sim:
    cargo run --release -p pagecache-sim --bin campaign -- log --seeds 100000

kills cycles="1000":
    cargo run --release -- kills --cycles {{cycles}}

fuzz seconds="10":
    fuzz/run {{seconds}}

bench:
    cargo run --release -p pagecache-bench --bin spine -- --out target/spine.jsonl
    cargo run --release -p pagecache-bench --bin plot target/spine.jsonl target/plots

soak seconds="600" budget="512":
    cargo run --release -p pagecache-bench --bin soak -- --seconds {{seconds}} --budget {{budget}} --out target/soak.jsonl --plot target/soak.svg

compare:
    crates/pagecache-compare/vendor-0.19.4
    cd crates/pagecache-compare && cargo run --release -- --out ../../target/compare.jsonl

doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

tour:
    cargo run --release -- tour

asan:
    scripts/sanitize address

tsan:
    scripts/sanitize thread

weaken:
    scripts/weaken

ci:
    .ci/run
