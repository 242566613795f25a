//! The `sluice` program: everything is in the library.

use std::process::ExitCode;

// Many small, short-lived allocations on several threads: what mimalloc is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sluice::cli::main(std::env::args_os(), &sluice::run::offline::Program)
}
