//! Failures of commands: exit codes and messages.

/// The exit code and the error message of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit code of the process.
    pub(crate) code: Code,
    /// The message that follows `Error: ` on standard error.
    pub(crate) message: String,
}

/// etcdutl's exit codes.
///
/// Source: etcd v3.7.1 pkg/cobrautl/error.go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Anything else.
    Error = 1,
    /// The command or a flag's value is not supported.
    BadFeature = 4,
    /// Arguments or flags are invalid.
    BadArgs = 128,
}

/// The result of a command.
pub(crate) type CommandResult<T = ()> = Result<T, Failure>;

impl Code {
    /// A failure with this code.
    pub(crate) fn with(self, message: impl ToString) -> Failure {
        Failure { code: self, message: message.to_string() }
    }
}

/// An error of the operating system in Go's words: `open x: no such file or directory`.
pub(crate) fn io_failure(call: &str, path: &str, error: &std::io::Error) -> Failure {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default().to_lowercase();
    Code::Error.with(format!("{call} {path}: {text}"))
}
