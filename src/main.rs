//! The command line of openmeet-gateway.

mod cli;

use std::process::ExitCode;

use clap::Parser;

/// A quarter of the time of a GraphQL list goes to allocation; this allocator halves it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    match Box::pin(cli::run(cli::Arguments::parse())).await {
        Ok(code) => code,
        Err(error) => {
            // The log may not have started, and a person waits for the answer.
            eprintln!("openmeet-gateway: {}", error.chain());
            ExitCode::FAILURE
        }
    }
}
