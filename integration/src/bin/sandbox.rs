//! `make demo`: see [`integration::sandbox`].

use integration::sandbox::{Options, USAGE, run};

#[tokio::main]
async fn main() -> std::process::ExitCode {
    if std::env::args().any(|arg| arg == "--help" || arg == "-h") {
        println!("{USAGE}");
        return std::process::ExitCode::SUCCESS;
    }
    let outcome = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => run(options).await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sandbox: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
