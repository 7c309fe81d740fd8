//! How a command ends when it does not end well.

/// The exit code, and what stands on stderr behind `Error: `.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What the process exits with.
    pub(crate) code: Code,
    /// Nothing when all has been said already.
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
    /// What came from standard input is no use.
    InvalidInput = 3,
    /// A flag has a value that is not supported.
    BadFeature = 4,
    /// The server ended what should go on.
    Interrupted = 5,
    /// Arguments or flags do not fit.
    BadArgs = 128,
}

/// What a command comes to.
pub(crate) type CommandResult<T = ()> = Result<T, Failure>;

impl Code {
    /// A failure with this code.
    pub(crate) fn with(self, message: impl ToString) -> Failure {
        Failure { code: self, message: Some(message.to_string()) }
    }

    /// A failure about which all has been said.
    pub(crate) fn silent(self) -> Failure {
        Failure { code: self, message: None }
    }
}

/// An error of the server's.
impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Failure {
        Code::Error.with(error)
    }
}
