//! Failures of commands: exit codes and messages.

/// The exit code and the error message of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit code of the process.
    pub(crate) exit_code: i32,
    /// `None` if the message was printed already.
    pub(crate) message: Option<String>,
}

/// etcdctl's exit codes.
///
/// Source: etcd v3.7.1 pkg/cobrautl/error.go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Anything else.
    Error = 1,
    /// The server cannot be reached.
    BadConnection = 2,
    /// Standard input is invalid.
    InvalidInput = 3,
    /// A flag has a value that is not supported.
    BadFeature = 4,
    /// The server ended a stream.
    Interrupted = 5,
    /// Arguments or flags are invalid.
    BadArgs = 128,
}

/// The result of a command.
pub(crate) type CommandResult<T = ()> = Result<T, Failure>;

impl Code {
    /// A failure with this code.
    pub(crate) fn with(self, message: impl ToString) -> Failure {
        Failure { exit_code: self as i32, message: Some(message.to_string()) }
    }

    /// A failure whose message was printed already.
    pub(crate) fn silent(self) -> Failure {
        Failure { exit_code: self as i32, message: None }
    }
}

impl Failure {
    /// The failure of a program that this command ran, with the program's exit code.
    pub(crate) fn of_command(exit_code: i32, message: String) -> Failure {
        Failure { exit_code, message: Some(message) }
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Failure {
        Code::Error.with(error)
    }
}
