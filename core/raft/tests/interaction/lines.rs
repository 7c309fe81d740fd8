//! Catches the log lines of the nodes, in order, as `LEVEL message`.

use std::cell::{Cell, RefCell};
use std::fmt;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{Interest, Subscriber, set_global_default};
use tracing::{Event, Level, Metadata};

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    /// The lines caught on this thread, if it catches lines.
    static LEVEL: Cell<Option<Level>> = const { Cell::new(None) };
}

/// One subscriber for the process, because tracing caches the interest of subscribers per call site.
struct Catcher;

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0.push_str(&format!("{value:?}"));
        }
    }
}

impl Subscriber for Catcher {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        LEVEL.get().is_some_and(|level| metadata.level() <= &level)
    }
    fn event(&self, event: &Event<'_>) {
        let mut text = Text(format!("{} ", event.metadata().level()));
        event.record(&mut text);
        LINES.with_borrow_mut(|lines| lines.push(text.0));
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// What `work` returns, and the lines at or above `level` that were logged meanwhile.
pub(crate) fn caught<T>(level: Option<Level>, work: impl FnOnce() -> T) -> (T, Vec<String>) {
    let Some(level) = level else { return (work(), Vec::new()) };
    // Fails if it was set before, which is as well.
    set_global_default(Catcher).ok();
    LEVEL.set(Some(level));
    let done = work();
    LEVEL.set(None);
    (done, LINES.take())
}
