//! `make chaos`: see [`integration::chaos`].

use std::process::ExitCode;

use integration::chaos::plan::{Plan, USAGE};

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let plan = match Plan::parse(args) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("chaos: {error}");
            return ExitCode::from(2);
        }
    };
    match integration::chaos::run(&plan, &|text| eprintln!("chaos: {text}")).await {
        Ok(report) => {
            let (passed, failed) = report.counts();
            println!("{}\n{passed} passed, {failed} failed", report.table());
            if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}
