//! Child processes. Their output is collected while they run, every wait has a time limit, and they
//! are killed when they are dropped.

use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The interval between two checks of a condition.
const STEP: Duration = Duration::from_millis(5);

/// Set when this process was asked to end. Every wait then fails, so that all child processes are
/// dropped and killed.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Makes every wait fail from now on.
pub fn stop() {
    STOPPED.store(true, Ordering::Relaxed);
}

/// Calls a check repeatedly until it returns something.
///
/// # Errors
/// When that takes too long, or the check fails.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if STOPPED.load(Ordering::Relaxed) {
            bail!("stopped while waiting for {what}");
        }
        if started.elapsed() > limit {
            bail!("{what}: not within {limit:?}");
        }
        std::thread::sleep(STEP);
    }
}

/// The output and the exit code of a program.
#[derive(Clone, Debug)]
pub struct Printed {
    /// Standard output.
    pub out: Vec<u8>,
    /// Standard error.
    pub err: Vec<u8>,
    /// The exit code; `None` if it was killed.
    pub code: Option<i32>,
}

/// A running program. It is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    input: Option<ChildStdin>,
    out: Collector,
    err: Collector,
}

impl Running {
    /// Starts a program in a directory.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(program: &Path, words: &[String], directory: &Path) -> Result<Running> {
        let mut child = Command::new(program)
            .args(words)
            .current_dir(directory)
            .env("ETCDCTL_API", "3")
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let input = child.stdin.take();
        let out = Collector::new(child.stdout.take());
        let err = Collector::new(child.stderr.take());
        Ok(Running { child, input, out, err })
    }

    /// Writes to its standard input. It is no error if the program has closed it.
    pub fn write(&mut self, text: &str) {
        if let Some(input) = &mut self.input
            && input.write_all(text.as_bytes()).and_then(|()| input.flush()).is_err()
        {
            self.input = None;
        }
    }

    /// How many lines it has printed to its standard output.
    #[must_use]
    pub fn lines(&self) -> usize {
        self.out.lock().iter().filter(|byte| **byte == b'\n').count()
    }

    /// Closes its standard input and waits until it exits.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn join(mut self, limit: Duration) -> Result<Printed> {
        drop(self.input.take());
        let status = wait_for("the end of a program", limit, || Ok(self.child.try_wait()?));
        match status {
            Ok(status) => Ok(self.printed(status)),
            Err(error) => {
                let so_far = String::from_utf8_lossy(&self.out.lock()).into_owned();
                let errors = String::from_utf8_lossy(&self.err.lock()).into_owned();
                Err(error.context(format!("it has printed:\n{so_far}{errors}")))
            }
        }
    }

    /// Sends it SIGINT.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn interrupt(&self) -> Result<()> {
        let process = nix::unistd::Pid::from_raw(i32::try_from(self.child.id())?);
        Ok(nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGINT)?)
    }

    /// Kills it.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn end(mut self) -> Result<Printed> {
        self.child.kill()?;
        let status = self.child.wait()?;
        Ok(self.printed(status))
    }

    fn printed(&mut self, status: ExitStatus) -> Printed {
        Printed { out: self.out.finish(), err: self.err.finish(), code: status.code() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if the process has exited already.
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

/// Reads a pipe to its end in a thread.
#[derive(Debug)]
struct Collector {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Collector {
    fn new(pipe: Option<impl Read + Send + 'static>) -> Collector {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&bytes);
        let reader = pipe.map(|mut pipe| {
            std::thread::spawn(move || {
                let mut chunk = [0; 4096];
                while let Ok(len) = pipe.read(&mut chunk)
                    && len > 0
                {
                    into.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .extend_from_slice(&chunk[..len]);
                }
            })
        });
        Collector { bytes, reader }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&mut self) -> Vec<u8> {
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
        std::mem::take(&mut *self.lock())
    }
}
