//! Limits for each user, so that one cannot take everything from the others: requests in progress
//! and their bytes, and open watches. They count at this member, over all its connections.

use rpc::{Code, Status};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

/// The limits for each user; `usize::MAX` for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserLimits {
    /// Requests in progress: `--max-requests-per-user`.
    pub requests: usize,
    /// Bytes of the requests in progress: `--max-request-bytes-per-user`.
    pub bytes: usize,
    /// Open watches: `--max-watches-per-user`.
    pub watches: usize,
}

impl Default for UserLimits {
    fn default() -> UserLimits {
        UserLimits { requests: usize::MAX, bytes: usize::MAX, watches: usize::MAX }
    }
}

/// Something that is counted for each user.
pub(crate) struct UserCounts {
    max: usize,
    /// In the error.
    name: &'static str,
    flag: &'static str,
    /// The users that have some.
    counts: Arc<Mutex<BTreeMap<Box<str>, usize>>>,
}

impl fmt::Debug for UserCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserCounts").field("name", &self.name).field("max", &self.max).finish()
    }
}

/// A part of what a user may have. Dropping it gives it back.
#[derive(Debug)]
pub struct UserPlace {
    user: Box<str>,
    amount: usize,
    counts: Arc<Mutex<BTreeMap<Box<str>, usize>>>,
}

impl Drop for UserPlace {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.user) {
            *count -= self.amount;
            if *count == 0 {
                counts.remove(&self.user);
            }
        }
    }
}

impl UserCounts {
    pub(crate) fn requests(limits: UserLimits) -> UserCounts {
        UserCounts::new(limits.requests, "requests in progress", "max-requests-per-user")
    }

    pub(crate) fn bytes(limits: UserLimits) -> UserCounts {
        let name = "bytes of requests in progress";
        UserCounts::new(limits.bytes, name, "max-request-bytes-per-user")
    }

    pub(crate) fn watches(limits: UserLimits) -> UserCounts {
        UserCounts::new(limits.watches, "open watches", "max-watches-per-user")
    }

    fn new(max: usize, name: &'static str, flag: &'static str) -> UserCounts {
        UserCounts { max, name, flag, counts: Arc::default() }
    }

    /// Whether there is a limit.
    pub(crate) fn is_limited(&self) -> bool {
        self.max != usize::MAX
    }

    /// Takes one for a user; `None` if there is no limit, or no user.
    ///
    /// # Errors
    /// The status for the client, when the user has as many as it may have.
    pub(crate) fn take(&self, user: &str) -> Result<Option<UserPlace>, Status> {
        self.take_some(user, 1)
    }

    /// As [`UserCounts::take`], for an amount.
    ///
    /// # Errors
    /// The status for the client, when the user would have more than it may have.
    pub(crate) fn take_some(&self, user: &str, amount: usize) -> Result<Option<UserPlace>, Status> {
        if !self.is_limited() || user.is_empty() || amount == 0 {
            return Ok(None);
        }
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = counts.get(user).copied().unwrap_or_default();
        if self.max.saturating_sub(taken) < amount {
            let UserCounts { max, name, flag, .. } = self;
            let why = format!("retcd: user {user:?} has too many {name} (--{flag}={max})");
            return Err(Status::new(Code::ResourceExhausted, why));
        }
        counts.insert(user.into(), taken + amount);
        drop(counts);
        Ok(Some(UserPlace { user: user.into(), amount, counts: Arc::clone(&self.counts) }))
    }
}

/// A call that may go on.
#[derive(Clone, Debug, Default)]
pub struct Admitted {
    /// Its user, if authentication is enabled and it has one.
    pub user: Option<Rc<str>>,
    /// Its place among the user's requests.
    pub place: Option<Rc<UserPlace>>,
    /// Its bytes among those of the user's requests.
    pub bytes: Option<Rc<UserPlace>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_as_many_as_the_limit_and_others_are_not_affected() {
        let counts = UserCounts::requests(UserLimits { requests: 2, ..UserLimits::default() });
        let first = counts.take("alice").unwrap();
        let second = counts.take("alice").unwrap();
        let status = counts.take("alice").unwrap_err();
        assert_eq!(status.code, Code::ResourceExhausted);
        let why =
            "retcd: user \"alice\" has too many requests in progress (--max-requests-per-user=2)";
        assert_eq!(status.message, why);
        assert!(counts.take("bob").unwrap().is_some());
        drop(first);
        let third = counts.take("alice").unwrap();
        drop((second, third));
        assert!(counts.counts.lock().unwrap().is_empty(), "who has none takes no memory");
    }

    #[test]
    fn a_user_has_as_many_bytes_as_the_limit() {
        let counts = UserCounts::bytes(UserLimits { bytes: 10, ..UserLimits::default() });
        let six = counts.take_some("alice", 6).unwrap();
        let status = counts.take_some("alice", 5).unwrap_err();
        let why = "retcd: user \"alice\" has too many bytes of requests in progress \
                   (--max-request-bytes-per-user=10)";
        assert_eq!((status.code, &*status.message), (Code::ResourceExhausted, why));
        let four = counts.take_some("alice", 4).unwrap();
        assert!(counts.take_some("bob", 10).unwrap().is_some());
        assert!(counts.take_some("alice", 0).unwrap().is_none(), "an empty request takes nothing");
        drop((six, four));
        assert!(counts.take_some("alice", 11).is_err(), "more than the limit alone");
        assert!(counts.counts.lock().unwrap().is_empty(), "what was refused takes no memory");
        assert!(counts.take_some("alice", 10).unwrap().is_some());
    }

    #[test]
    fn without_a_limit_or_a_user_nothing_is_counted() {
        let none = UserCounts::watches(UserLimits::default());
        assert!(none.take("alice").unwrap().is_none());
        let one = UserCounts::watches(UserLimits { watches: 1, ..UserLimits::default() });
        assert!(one.take("").unwrap().is_none());
        assert!(one.take("").unwrap().is_none());
    }
}
