//! What the tools draw on a terminal and ask there: progress bars on the standard error, and
//! passwords. Nothing is drawn if the standard error is not a terminal, so that pipes and files get
//! the messages only. The tools print no colours.

mod bar;
mod password;

pub use bar::{Bar, Unit};
pub use password::ask_password;
