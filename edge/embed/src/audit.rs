//! The file of the audit log. Lines wait in a bounded queue for one thread, which writes them. A
//! call never waits for the file: when the queue is full, its line is dropped and counted.
//!
//! The file is one of [`crate::log_rotation`]. Lines are not synced to the disk.

use crate::config::AuditFile;
use crate::log_rotation::RotatingFile;
use api::{AuditLine, AuditSink};
use cli::log;
use server::metrics::Metrics;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Lines that wait for the file.
const QUEUED_MAX: usize = 8_192;
/// Bytes of lines that are written at once.
const BATCH_BYTES: usize = 64 * 1024;
/// How long the end of the server waits for the lines in the queue.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(2);
/// The digits of a time: microseconds.
const DIGITS: usize = 6;

/// A message to the thread.
enum ToWriter {
    Line(AuditLine),
    /// Answer when all lines before are written.
    Flush(SyncSender<()>),
}

/// The audit log of a running server.
#[derive(Debug)]
pub(crate) struct AuditLog {
    queue: SyncSender<ToWriter>,
    metrics: Arc<Metrics>,
}

impl AuditLog {
    /// Opens the file and starts the thread.
    ///
    /// # Errors
    /// When the file cannot be opened, or there is no thread.
    pub(crate) fn start(options: &AuditFile, metrics: &Arc<Metrics>) -> io::Result<AuditLog> {
        let mut file = RotatingFile::open(&options.path, options.rules.clone())?;
        let (queue, lines) = sync_channel(QUEUED_MAX);
        let counts = Arc::clone(metrics);
        let write = move || write(&mut file, &lines, &counts);
        std::thread::Builder::new().name("audit-log".to_owned()).spawn(write)?;
        Ok(AuditLog { queue, metrics: Arc::clone(metrics) })
    }

    /// Takes the lines of calls.
    pub(crate) fn sink(&self) -> AuditSink {
        let (queue, metrics) = (self.queue.clone(), Arc::clone(&self.metrics));
        AuditSink::new(move |line| {
            if queue.try_send(ToWriter::Line(line)).is_err() {
                metrics.security.audit_dropped.inc();
            }
        })
    }

    /// Waits until the lines so far are in the file, but not for long.
    pub(crate) fn flush(&self) {
        let (done, wait) = sync_channel(1);
        let is_queued = self.queue.send(ToWriter::Flush(done)).is_ok();
        if !is_queued || wait.recv_timeout(FLUSH_TIME_MAX).is_err() {
            tracing::warn!("the last lines of the audit log are not written");
        }
    }
}

/// Writes lines until there is no sender.
fn write(file: &mut RotatingFile, queue: &Receiver<ToWriter>, metrics: &Metrics) {
    let mut is_failing = false;
    while let Ok(first) = queue.recv() {
        let (mut batch, mut lines, mut flushed) = (String::new(), 0, None);
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                ToWriter::Line(line) => {
                    batch.push_str(&text(&line));
                    lines += 1;
                }
                ToWriter::Flush(done) => flushed = Some(done),
            }
            let is_full = batch.len() >= BATCH_BYTES || flushed.is_some();
            next = if is_full { None } else { queue.try_recv().ok() };
        }
        match file.write(batch.as_bytes()) {
            Ok(()) => {
                metrics.security.audit_written.inc_by(lines);
                is_failing = false;
            }
            Err(error) => {
                metrics.security.audit_dropped.inc_by(lines);
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::error!(%error, file = %file.path().display(), "cannot write the audit log");
                }
            }
        }
        if flushed.is_some_and(|done| done.send(()).is_err()) {
            tracing::debug!("nobody waits for the audit log");
        }
    }
}

/// A line with its time and line feed.
fn text(line: &AuditLine) -> String {
    let time = log::timestamp(line.begun, DIGITS);
    let fields = serde_json::to_string(&line.fields).unwrap_or_default();
    // There is at least the method.
    format!("{{\"time\":\"{time}\",{}\n", fields.trim_start_matches('{'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::time::UNIX_EPOCH;

    fn line(key: &str) -> AuditLine {
        let serde_json::Value::Object(fields) = serde_json::json!({ "key": key }) else {
            panic!("not an object")
        };
        AuditLine { begun: UNIX_EPOCH, fields }
    }

    fn options(path: &Path, bytes_max: u64, files_max: usize) -> AuditFile {
        AuditFile::new(path.to_owned(), bytes_max, files_max)
    }

    #[test]
    fn lines_are_written_in_order_with_their_time() {
        let folder = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::new(false));
        let log =
            AuditLog::start(&options(&folder.path().join("audit"), 1_000, 1), &metrics).unwrap();
        let sink = log.sink();
        sink.take(line("a"));
        sink.take(line("b"));
        log.flush();
        let text = std::fs::read_to_string(folder.path().join("audit")).unwrap();
        let want = "{\"time\":\"1970-01-01T00:00:00.000000Z\",\"key\":\"a\"}\n\
                    {\"time\":\"1970-01-01T00:00:00.000000Z\",\"key\":\"b\"}\n";
        assert_eq!(text, want);
        assert_eq!(metrics.security.audit_written.get(), 2);
        assert_eq!(metrics.security.audit_dropped.get(), 0);
    }

    #[test]
    fn a_full_queue_drops_lines_and_counts_them() {
        let (queue, lines) = sync_channel(1);
        let metrics = Arc::new(Metrics::new(false));
        let log = AuditLog { queue, metrics: Arc::clone(&metrics) };
        let sink = log.sink();
        sink.take(line("a"));
        sink.take(line("b"));
        assert_eq!(metrics.security.audit_dropped.get(), 1);
        drop(lines);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_counted() {
        let metrics = Metrics::new(false);
        let (queue, lines) = sync_channel(1);
        queue.send(ToWriter::Line(line("a"))).unwrap();
        drop(queue);
        let full = options(Path::new("/dev/full"), u64::MAX, 1);
        write(&mut RotatingFile::open(&full.path, full.rules).unwrap(), &lines, &metrics);
        assert_eq!(
            (metrics.security.audit_written.get(), metrics.security.audit_dropped.get()),
            (0, 1)
        );
    }

    /// The renamed files, once there are as many as they shall be.
    fn renamed(folder: &Path, count: usize) -> Vec<String> {
        loop {
            let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            let mut paths: Vec<_> = entries.filter(|path| !path.ends_with("audit.log")).collect();
            paths.sort();
            // The thread that removes files may remove one of these.
            let texts: Vec<String> =
                paths.iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect();
            if texts.len() == count && paths.len() == count {
                return texts;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn as_many_files_are_kept_as_the_flag_says() {
        for (files_max, want) in [(2, &["3\n3\n", "4\n4\n4\n"][..]), (0, &[])] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("audit.log");
            let options = options(&path, 4, files_max);
            let mut file = RotatingFile::open(&options.path, options.rules).unwrap();
            for lines in ["1\n", "2\n", "3\n3\n", "4\n4\n4\n", "5\n"] {
                file.write(lines.as_bytes()).unwrap();
            }
            assert_eq!(renamed(folder.path(), files_max), want);
            assert_eq!(std::fs::read_to_string(path).unwrap(), "5\n");
        }
    }
}
