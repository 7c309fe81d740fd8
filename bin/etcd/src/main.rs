//! The server's program: arguments and environment in, exit code out.

/// Measured against the system's allocator before it was taken.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    use_small_pages();
    let arguments: Vec<String> =
        std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    let variables: Vec<(String, String)> = std::env::vars_os()
        .map(|(name, value)| {
            (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
        })
        .collect();
    embed::main(&arguments, &variables).into()
}

/// The allocator asks for huge pages, of 2 MiB, and each that holds a few bytes counts whole:
/// measured, a third of the memory. Where the kernel does not know this call it works as well.
fn use_small_pages() {
    rustix::thread::disable_transparent_huge_pages(true).ok();
}
