//! The URLs of a member. One is used until it fails.
//!
//! Source: etcd v3.7 rafthttp/urlpick.go.

use net::Url;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The URLs of a member.
#[derive(Debug)]
pub(crate) struct UrlPicker(Mutex<(Vec<Url>, usize)>);

impl UrlPicker {
    pub(crate) fn new(urls: &[String]) -> UrlPicker {
        UrlPicker(Mutex::new((parse(urls), 0)))
    }

    /// Replaces the URLs, if they have changed.
    pub(crate) fn update(&self, urls: &[String]) {
        let urls = parse(urls);
        let mut picker = self.lock();
        if picker.0 != urls {
            *picker = (urls, 0);
        }
    }

    pub(crate) fn pick(&self) -> Option<Url> {
        let picker = self.lock();
        picker.0.get(picker.1).cloned()
    }

    /// Switches to the next URL, if this one is still in use.
    pub(crate) fn failed(&self, url: &Url) {
        let mut picker = self.lock();
        let (urls, at) = &mut *picker;
        if urls.get(*at) == Some(url) {
            *at = (*at + 1) % urls.len();
        }
    }

    fn lock(&self) -> MutexGuard<'_, (Vec<Url>, usize)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parse(urls: &[String]) -> Vec<Url> {
    let one = |text: &String| match Url::parse(text) {
        Ok(url) => Some(url),
        Err(error) => {
            tracing::warn!(url = text, %error, "cannot use the URL of a peer");
            None
        }
    };
    urls.iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_url_is_used_after_a_failure_of_the_current_one() {
        let urls = ["http://a:1", "http://b:2"].map(str::to_owned);
        let picker = UrlPicker::new(&urls);
        let first = picker.pick().unwrap();
        assert_eq!(first.as_str(), "http://a:1");
        picker.failed(&first);
        picker.failed(&first);
        let second = picker.pick().unwrap();
        assert_eq!(second.as_str(), "http://b:2");
        picker.update(&urls);
        assert_eq!(picker.pick(), Some(second.clone()));
        picker.failed(&second);
        assert_eq!(picker.pick(), Some(first));
        assert_eq!(UrlPicker::new(&["x".to_owned()]).pick(), None);
    }
}
