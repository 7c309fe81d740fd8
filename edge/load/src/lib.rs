//! Load on a server, and what it shows: requests of many clients on a schedule, the time of each,
//! and the reports of etcd's `benchmark` over them, as text, JSON and a plot. Not here: the
//! requests, and printing.
//!
//! Source: etcd v3.7.1 pkg/report.

mod perfdash;
mod plot;
mod report;
mod results;
mod run;
mod schedule;
mod series;
mod statistics;

pub use perfdash::perfdash;
pub use plot::{Panel, svg};
pub use report::{Precision, report};
pub use results::{Results, Start};
pub use run::{run, run_quietly};
pub use schedule::{Pace, Schedule};
pub use series::{Second, seconds};
pub use statistics::Statistics;
