//! Runs a script: starts a new server, runs the commands in order, and records their output.

use crate::normal::{self, Known};
use crate::process::{Printed, Running, wait_for};
use crate::script::{Action, Program, Script, Step};
use crate::server::Server;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// The time limit of one command.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(60);

/// The length of `$large`.
const LARGE: usize = 60_000;

/// A server and the client programs for it.
#[derive(Clone, Debug)]
pub struct Side {
    /// The server.
    pub server: PathBuf,
    /// etcdctl.
    pub ctl: PathBuf,
    /// etcdutl, if there is one.
    pub utl: Option<PathBuf>,
}

/// The output of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The command with its input, as written in the script.
    pub command: String,
    /// Its output; what changes from run to run is masked.
    pub output: String,
    /// The row of `docs/differences.md` that allows the output to differ.
    pub differs: Option<String>,
}

/// A transcript as text: each command after `$ `, then its output.
#[must_use]
pub fn text(transcript: &[Shown]) -> String {
    let mut text = String::new();
    for shown in transcript {
        for (at, line) in shown.command.lines().enumerate() {
            text.push_str(if at == 0 { "$ " } else { "" });
            text.push_str(line);
            text.push('\n');
        }
        text.push_str(&shown.output);
        text.push('\n');
    }
    text
}

/// Runs a script.
///
/// # Errors
/// When the server does not start, or a program does not start or end.
pub fn run(script: &Script, side: &Side) -> Result<Vec<Shown>> {
    let mut tour = Tour::new(script, side)?;
    let mut transcript = Vec::new();
    for step in &script.steps {
        let place = || format!("{}:{}: {}", script.name, step.line, step.text);
        if let Some(output) = tour.step(step).with_context(place)? {
            let (command, differs) = (step.text.clone(), step.differs.clone());
            transcript.push(Shown { command, output, differs });
        }
    }
    Ok(transcript)
}

struct Tour<'a> {
    script: &'a Script,
    side: &'a Side,
    /// Before the directory, so that all have ended when that goes.
    started: BTreeMap<String, (Running, Vec<String>)>,
    server: Option<Server>,
    directory: TempDir,
    known: Known,
}

impl<'a> Tour<'a> {
    fn new(script: &'a Script, side: &'a Side) -> Result<Tour<'a>> {
        let directory = TempDir::new()?;
        std::fs::create_dir(directory.path().join("work"))?;
        let mut tour = Tour {
            script,
            side,
            started: BTreeMap::new(),
            server: None,
            directory,
            known: Known::default(),
        };
        tour.known.directory = tour.work().display().to_string();
        tour.serve(&tour.directory.path().join("data"))?;
        Ok(tour)
    }

    fn work(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    fn serve(&mut self, data: &Path) -> Result<()> {
        self.server = None;
        let log = self.directory.path().join("log");
        let server = Server::start(&self.side.server, data, &log, &self.script.server_flags)?;
        self.known.endpoint = server.endpoint();
        self.server = Some(server);
        Ok(())
    }

    /// Does one step. Returns its output, if the step shows any.
    fn step(&mut self, step: &Step) -> Result<Option<String>> {
        match &step.action {
            Action::Run { program, words, input } => {
                let words = self.with_ids(words);
                let mut running = self.start(*program, &words)?;
                running.write(&self.with_ids(std::slice::from_ref(input)).concat());
                let printed = running.join(COMMAND_TIME_MAX)?;
                self.note_leases(&words, &printed);
                Ok(Some(normal::transcript(&printed, &words, &self.known)))
            }
            Action::Start { name, program, words } => {
                let words = self.with_ids(words);
                let running = self.start(*program, &words)?;
                self.started.insert(name.clone(), (running, words));
                Ok(None)
            }
            Action::Say { name, text } => {
                let text = self.with_ids(&[format!("{text}\n")]).concat();
                self.started.get_mut(name).context("not started")?.0.write(&text);
                Ok(None)
            }
            Action::Until { name, lines } => {
                let running = &self.started.get(name).context("not started")?.0;
                wait_for(&format!("{lines} lines"), COMMAND_TIME_MAX, || {
                    Ok((running.lines() >= *lines).then_some(()))
                })?;
                Ok(None)
            }
            Action::End(name) => {
                let (running, words) = self.started.remove(name).context("not started")?;
                let printed = running.end()?;
                Ok(Some(normal::transcript(&printed, &words, &self.known)))
            }
            Action::Interrupt(name) => {
                let (running, words) = self.started.remove(name).context("not started")?;
                running.interrupt()?;
                let printed = running.join(COMMAND_TIME_MAX)?;
                Ok(Some(normal::transcript(&printed, &words, &self.known)))
            }
            Action::Join(name) => {
                let (running, words) = self.started.remove(name).context("not started")?;
                let printed = running.join(COMMAND_TIME_MAX)?;
                Ok(Some(normal::transcript(&printed, &words, &self.known)))
            }
            Action::Pause(time) => {
                std::thread::sleep(*time);
                Ok(None)
            }
            Action::Serve(directory) => {
                self.serve(&self.work().join(directory))?;
                Ok(None)
            }
        }
    }

    fn start(&self, program: Program, words: &[String]) -> Result<Running> {
        let mut words = words.to_vec();
        let path = match (program, &self.side.utl) {
            (Program::Utl, Some(utl)) => utl,
            (Program::Utl, None) => &self.side.ctl,
            (Program::Ctl, _) => {
                if !words.iter().any(|word| word.starts_with("--endpoints")) {
                    // At the front, because arguments after `--` are not read as flags.
                    words.insert(0, format!("--endpoints={}", self.known.endpoint));
                }
                &self.side.ctl
            }
        };
        Running::start(path, &words, &self.work())
    }

    /// Replaces variables such as `$lease1`.
    fn with_ids(&self, words: &[String]) -> Vec<String> {
        let put_in = |word: &String| {
            let mut word = word.replace("$endpoint", &self.known.endpoint);
            if word.contains("$large") {
                word = word.replace("$large", &"x".repeat(LARGE));
            }
            for (number, id) in (1..).zip(&self.known.leases) {
                word = word.replace(&format!("$lease{number}"), &format!("{id:x}"));
            }
            word
        };
        words.iter().map(put_in).collect()
    }

    /// Records the id of a granted lease.
    fn note_leases(&mut self, words: &[String], printed: &Printed) {
        if !words.iter().any(|word| word == "grant") {
            return;
        }
        let text = String::from_utf8_lossy(&printed.out);
        let hexadecimal = text
            .strip_prefix("lease ")
            .and_then(|rest| rest.split(' ').next())
            .and_then(|id| u64::from_str_radix(id, 16).ok());
        let decimal = || {
            let (_, rest) = text.split_once("\"ID\"")?;
            let rest = rest.trim_start_matches([' ', ':']);
            let end = rest.find(|char: char| !char.is_ascii_digit()).unwrap_or(rest.len());
            rest[..end].parse().ok()
        };
        self.known.leases.extend(hexadecimal.or_else(decimal));
    }
}
