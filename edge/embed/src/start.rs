//! The program: from arguments to a running server and its exit code. 0 after `--help` and
//! `--version`, 2 for an invalid command line, 1 for any other error.
//!
//! Source: etcd server/etcdmain/{config,etcd}.go @ v3.7.1.

use crate::arguments::{self, Parsed};
use crate::config::Config;
use crate::console::print;
use crate::logging::LogOutput;
use crate::settings::{Notice, Settings};
use crate::{commands, environment, file, help, old, validate};

/// What to do, decided from arguments, environment and file.
#[derive(Debug)]
pub enum Decision {
    /// Print this on standard output and end with 0.
    Print(String),
    /// Print this on standard error and end with this code.
    Complain(String, u8),
    /// Log the notices; then serve, or end with 1 and the error.
    Serve(Box<Plan>),
}

/// The log, its first lines, and the configuration or the error.
#[derive(Debug)]
pub struct Plan {
    /// Lines for the log that exists before the settings are known.
    pub early: Vec<Notice>,
    /// Lines for the log of the settings.
    pub notices: Vec<Notice>,
    /// The log, when its settings are good.
    pub log: Option<LogOutput>,
    /// The configuration, or why there is none.
    pub config: Result<Config, String>,
}

/// Decides from the arguments after the program's name, and the environment.
pub fn decide(arguments: &[String], variables: &environment::Variables) -> Decision {
    let (mut settings, rest) = match arguments::parse(arguments) {
        Err(message) => {
            return Decision::Complain(format!("{message}\n{}\n", help::USAGE), 2);
        }
        Ok(Parsed::Help) => return Decision::Print(help::help()),
        Ok(Parsed::Flags(settings, rest)) => (*settings, rest),
    };
    if let Some(rest) = rest {
        let error = Err(format!("{rest:?} is not a valid flag"));
        return serve(Plan { early: Vec::new(), notices: Vec::new(), log: None, config: error });
    }
    if settings.bool("version") {
        return Decision::Print(help::version());
    }
    let path = match settings.text("config-file") {
        given if !given.is_empty() => given,
        _ => {
            let variable = environment::variable("config-file");
            environment::lookup(variables, &variable).unwrap_or("").to_owned()
        }
    };
    let read = if path.is_empty() {
        environment::apply(&mut settings, variables)
    } else {
        settings = Settings::of_file(&path);
        match read_file(&path, &mut settings) {
            Err(file::Error::Printed(message)) => {
                return Decision::Complain(format!("{message}\n"), 1);
            }
            Err(file::Error::Invalid(message)) => Err(message),
            Ok(()) => Ok(()),
        }
    };
    let early = std::mem::take(&mut settings.notices);
    let deprecated = match read.and_then(|()| old::replace(&mut settings)) {
        Ok(notices) => notices,
        Err(error) => {
            return serve(Plan { early, notices: Vec::new(), log: None, config: Err(error) });
        }
    };
    let log = validate::check_logging(&settings).and_then(|logging| LogOutput::open(&logging));
    let log = match log {
        Ok(log) => log,
        Err(error) => {
            return serve(Plan { early, notices: Vec::new(), log: None, config: Err(error) });
        }
    };
    let (config, mut notices) = validate::check(&settings);
    notices.extend(deprecated);
    if let Some(path) = settings.file {
        let message = "loaded server configuration, other configuration command line flags and environment variables will be ignored if provided";
        notices.push(Notice::new("info", message, [("path", path)]));
    }
    serve(Plan { early, notices, log: Some(log), config })
}

fn serve(plan: Plan) -> Decision {
    Decision::Serve(Box::new(plan))
}

fn read_file(path: &str, settings: &mut Settings) -> Result<(), file::Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| file::Error::Invalid(format!("open {path}: {}", crate::logging::plain(&e))))?;
    file::parse(&text, settings)
}

/// Starts the program from its arguments (the first is its name) and environment, serves until a
/// signal or a fault ends it, and gives the exit code.
pub fn main(arguments: &[String], variables: &environment::Variables) -> u8 {
    if arguments.get(1).is_some_and(|word| commands::is_command(word)) {
        return commands::main(arguments);
    }
    match decide(arguments.get(1..).unwrap_or_default(), variables) {
        Decision::Print(text) => {
            print(&mut std::io::stdout(), &text);
            0
        }
        Decision::Complain(text, code) => {
            print(&mut std::io::stderr(), &text);
            code
        }
        Decision::Serve(plan) => carry_out(*plan, arguments),
    }
}

fn carry_out(plan: Plan, arguments: &[String]) -> u8 {
    let early = LogOutput::early();
    for notice in &plan.early {
        early.notice(notice);
    }
    if plan.early.iter().any(|notice| notice.level == "fatal") {
        return 1;
    }
    let log = plan.log.unwrap_or(early);
    for notice in &plan.notices {
        log.notice(notice);
    }
    log.install();
    tracing::info!(args = ?arguments, "Running: ");
    match plan.config {
        Ok(config) => crate::run::run(&config),
        Err(error) => {
            tracing::warn!(error, "failed to verify flags");
            if error == validate::UNSET_ADVERTISE {
                tracing::warn!(error, "advertise client URLs are not set");
            }
            1
        }
    }
}
