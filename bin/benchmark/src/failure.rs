//! Why a command fails.

/// Why a benchmark cannot run.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments are wrong; the usage says how they should be.
    Misused,
    /// Anything else.
    Because(String),
}

/// The result of a command.
pub(crate) type CommandResult<T = ()> = Result<T, Failure>;

impl From<String> for Failure {
    fn from(why: String) -> Failure {
        Failure::Because(why)
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Failure {
        Failure::Because(error.to_string())
    }
}
