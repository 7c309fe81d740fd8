//! The state of the proxy that all its connections share.

use crate::cache::Cache;
use crate::layers::Layers;
use crate::leader::Leader;
use crate::options::Profiles;
use crate::registry::{Registered, Registry};
use crate::watches::Watches;
use client::Client;
use server::metrics::Metrics;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

/// The proxy, as its connections share it.
pub(crate) struct Proxy {
    /// A client of the servers, without a token.
    pub(crate) client: Client,
    /// A client of the proxy itself.
    pub(crate) itself: Option<Client>,
    pub(crate) layers: Rc<Layers>,
    pub(crate) cache: RefCell<Cache>,
    pub(crate) watches: Rc<Watches>,
    pub(crate) leader: Leader,
    /// What this proxy shows in the list of members; `None` if that shows the members.
    pub(crate) advertised: Option<Registered>,
    pub(crate) registry: Rc<Registry>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) profiles: Option<Profiles>,
    /// Calls with one response in progress.
    pub(crate) calls: Cell<usize>,
}

impl Proxy {
    /// Uses the cache, and sets the metric of its length.
    pub(crate) fn with_cache<T>(&self, using: impl FnOnce(&mut Cache) -> T) -> T {
        let mut cache = self.cache.borrow_mut();
        let result = using(&mut cache);
        let len = i64::try_from(cache.len()).unwrap_or(i64::MAX);
        self.metrics.store.proxy.cache_keys.set(len);
        result
    }
}
