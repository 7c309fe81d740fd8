//! The timer that pings a silent client and detects that it does not answer.
//!
//! Source: grpc-go server keepalive (`Time`, `Timeout`).

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

/// The action that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Send a ping.
    Ask,
    /// Close the connection: the last ping was not answered.
    Close,
}

/// Tracks when a client was last heard from.
#[derive(Debug)]
pub(crate) struct Liveness {
    interval: Duration,
    timeout: Duration,
    last_sign: Instant,
    is_asked: bool,
    timer: Pin<Box<Sleep>>,
}

impl Liveness {
    pub(crate) fn new((interval, timeout): (Duration, Duration), now: Instant) -> Liveness {
        let timer = Box::pin(sleep(interval));
        Liveness { interval, timeout, last_sign: now, is_asked: false, timer }
    }

    /// Records a sign of life. Cheap: the timer is only reset when it fires.
    pub(crate) fn sign(&mut self, now: Instant) {
        self.last_sign = now;
        self.is_asked = false;
    }

    /// Waits until something is due.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Due> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if self.is_asked {
                return Poll::Ready(Due::Close);
            }
            let due = self.last_sign + self.interval;
            if due <= now {
                self.is_asked = true;
                self.timer.as_mut().reset(now + self.timeout);
                return Poll::Ready(Due::Ask);
            }
            self.timer.as_mut().reset(due);
        }
    }
}
