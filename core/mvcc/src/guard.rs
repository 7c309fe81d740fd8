//! The keys that each request accesses, for permission checks.

use crate::range::{DeleteRange, PastVersion, Put, RangeQuery};
use auth::{Access, Denied, Guarded, Internal, KeyRange};

type Check<'a> = dyn FnMut(Access<'_>) -> Result<(), Denied> + 'a;

impl Guarded for Put {
    fn each_access(&self, check: &mut Check<'_>) -> Result<(), Denied> {
        let key = KeyRange::One(self.key.clone());
        check(Access::Write(&key))?;
        if self.prev_kv { check(Access::Read(&key)) } else { Ok(()) }
    }
}

impl Guarded for DeleteRange {
    fn each_access(&self, check: &mut Check<'_>) -> Result<(), Denied> {
        check(Access::Write(&self.keys))?;
        if self.prev_kv { check(Access::Read(&self.keys)) } else { Ok(()) }
    }
}

impl Guarded for RangeQuery {
    fn each_access(&self, check: &mut Check<'_>) -> Result<(), Denied> {
        check(Access::Read(&self.keys))
    }
}

impl Internal for PastVersion {}
