//! Tests of the state through its one entry point, [`state::State::step`].

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests, with functions of their own")]

mod alarms;
mod apply;
mod auth;
mod checkpoints;
mod leader;
mod restart;
mod support;
mod versions;
