//! The `vsctl` program; everything is in the library.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(vsctl::run(std::env::args_os().skip(1)))
}
