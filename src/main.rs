//! The `hello` program: see [`cli`] for its command line and the library for everything else.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
