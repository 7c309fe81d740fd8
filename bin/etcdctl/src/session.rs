//! The printer and the client, made from global flags and environment.
//!
//! Source: etcd v3.7.1 etcdctl/ctlv3/command/global.go.

use crate::commands::ROOT;
use crate::failure::{Code, CommandResult};
use crate::output;
use crate::printer::{Format, Printer};
use cli::json::Object;
use cli::log::{Level, Line};
use cli::{Flags, Parsed};
use client::{Client, Config, Warning};
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStringExt as _;
use std::sync::Arc;
use std::time::Duration;

const PREFIX: &str = "ETCDCTL";
/// Variables that only `watch` reads, which are no flags.
const WATCH_VARIABLES: [&str; 2] = ["ETCDCTL_WATCH_KEY", "ETCDCTL_WATCH_RANGE_END"];

/// A parsed command that is ready to run.
pub(crate) struct Session {
    /// The flags. [`Session::open`] adds those that the environment sets.
    pub(crate) flags: Flags,
    /// The arguments.
    pub(crate) args: cli::Words,
    /// The number of arguments before `--`, if there is one.
    pub(crate) dash: Option<usize>,
    /// The command's words.
    pub(crate) name: String,
    /// Set by [`Session::open`].
    pub(crate) printer: Printer,
    inherited: Vec<&'static str>,
    /// The name of the client's logger.
    logger: &'static str,
}

impl Session {
    pub(crate) fn new(parsed: Parsed) -> Session {
        let (name, inherited) = (parsed.name(), parsed.inherited());
        let printer = Printer { format: Format::Simple, hex: false, value_only: false };
        let Parsed { flags, args, dash, path: _ } = parsed;
        Session { flags, args, dash, name, printer, inherited, logger: "etcd-client" }
    }

    /// The arguments as text; invalid UTF-8 is replaced.
    pub(crate) fn words(&self) -> Vec<String> {
        self.args.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    }

    /// Reads the environment and the global flags; gives the client's configuration.
    pub(crate) fn open(&mut self) -> CommandResult<Config> {
        self.read_environment()?;
        if self.flags.bool("debug") {
            let mut globals = self.flags.shown(PREFIX);
            let known = |line: &String| {
                self.inherited.iter().any(|name| {
                    let name = name.replace('-', "_").to_uppercase();
                    line.strip_prefix("ETCDCTL_").is_some_and(|line| {
                        line.split('=').next().is_some_and(|shown| shown == name)
                    })
                })
            };
            globals.retain(known);
            globals.iter().for_each(|line| output::error_line(line));
        }
        self.refuse_what_is_not_built()?;
        let config = self.config()?;
        self.printer.format = Format::parse(&self.flags.text("write-out"))?;
        self.printer.hex = self.flags.bool("hex");
        Ok(config)
    }

    fn read_environment(&mut self) -> CommandResult {
        let variables: BTreeMap<String, Vec<u8>> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_vec())))
            .collect();
        let quiet: &[&str] = if self.name == "watch" { &WATCH_VARIABLES } else { &[] };
        let unused = self.flags.set_from_environment(PREFIX, &self.inherited, quiet, &variables);
        let log = |level, message, variable: &str| {
            output::log(&Line {
                level,
                logger: "",
                caller: concat!(file!(), ":", line!()),
                message,
                fields: Object::zap().string("environment-variable", variable),
            });
        };
        for variable in &unused.unrecognized {
            log(Level::Warn, "unrecognized environment variable", variable);
        }
        let Some(variable) = &unused.shadowed else { return Ok(()) };
        let message = "conflicting environment variable is shadowed by corresponding command-line \
                       flag (either unset environment variable or disable flag))";
        log(Level::Fatal, message, variable);
        Err(Code::Error.silent())
    }

    fn refuse_what_is_not_built(&self) -> CommandResult {
        for name in ["cert", "key", "cacert"] {
            if self.flags.changed(name) && self.flags.bytes(name).is_empty() {
                let text = format!("empty string is passed to --{name} option");
                return Err(Code::BadArgs.with(text));
            }
        }
        let given = |name: &&&str| !self.flags.bytes(name).is_empty();
        let texts = ["cert", "key", "cacert", "discovery-srv", "discovery-srv-name"];
        let switches = [("insecure-skip-tls-verify", false), ("insecure-transport", true)];
        let odd = |(name, usual): &&(&str, bool)| self.flags.bool(name) != *usual;
        let texts = texts.iter().find(given).copied();
        match texts.or_else(|| switches.iter().find(odd).map(|(name, _)| *name)) {
            Some(name) => Err(Code::BadArgs.with(format!("--{name} is not built yet"))),
            None => Ok(()),
        }
    }

    fn config(&self) -> CommandResult<Config> {
        let flags = &self.flags;
        let endpoints: Vec<String> =
            flags.list("endpoints").iter().map(|endpoint| endpoint.trim().to_string()).collect();
        let mut config = Config::new(endpoints);
        config.dial_timeout = flags.duration("dial-timeout");
        config.keep_alive_time = flags.duration("keepalive-time");
        config.keep_alive_timeout = flags.duration("keepalive-timeout");
        let limit = |name: &str| usize::try_from(flags.int(name)).ok().filter(|max| *max > 0);
        if let Some(max) = limit("max-request-bytes") {
            config.request_bytes_max = max;
        }
        if let Some(max) = limit("max-recv-bytes") {
            config.answer_bytes_max = max;
            if limit("max-request-bytes").is_none() {
                // The client compares the limits; only a limit that the user gave may be an error.
                config.request_bytes_max = config.request_bytes_max.min(max);
            }
        }
        let (user, password, token) =
            (flags.text("user"), flags.text("password"), flags.text("auth-jwt-token"));
        if !token.is_empty() {
            config.token = Some(token);
        } else if !user.is_empty() {
            config.user = Some(match user.split_once(':') {
                _ if !password.is_empty() => (user, password),
                Some((name, password)) => (name.to_string(), password.to_string()),
                None => (user, ask_password()?),
            });
        }
        let logger = self.logger;
        config.on_warning = Some(Arc::new(move |warning| warn(logger, warning)));
        Ok(config)
    }

    /// Sets the name of the client's logger.
    pub(crate) fn set_logger(&mut self, logger: &'static str) {
        self.logger = logger;
    }

    /// A client of all endpoints, without a time limit for calls.
    pub(crate) async fn client_without_timeout(&mut self) -> CommandResult<Client> {
        let config = self.open()?;
        connect(config).await
    }

    /// A client of all endpoints; `--command-timeout` limits each call.
    pub(crate) async fn client(&mut self) -> CommandResult<Client> {
        let client = self.client_without_timeout().await?;
        Ok(client.with_timeout(self.flags.duration("command-timeout")))
    }
}

impl Session {
    /// Prints once per `--command-timeout` that there is no connection, for commands that wait for
    /// one without a time limit. Prints nothing before the first failed connection attempt.
    pub(crate) fn report_while_unconnected(
        &self,
        client: Client,
    ) -> impl Future<Output = ()> + Send + 'static {
        /// With a timeout of 0 the message would be printed without a pause.
        const PAUSE_MIN: Duration = Duration::from_secs(1);
        let pause = self.flags.duration("command-timeout").max(PAUSE_MIN);
        let endpoints = self.flags.list("endpoints").join(",");
        async move {
            loop {
                tokio::time::sleep(pause).await;
                if let Some(why) = client.unconnected() {
                    output::error_line(&format!("waiting for a connection to {endpoints}: {why}"));
                }
            }
        }
    }
}

/// Creates a client.
///
/// # Errors
/// When the configuration is invalid, or the server refuses the password.
pub(crate) async fn connect(config: Config) -> CommandResult<Client> {
    Client::connect(config).await.map_err(|error| {
        let misused = matches!(error, client::Error::Config(_));
        if misused { Code::BadArgs.with(error) } else { Code::BadConnection.with(error) }
    })
}

fn warn(logger: &'static str, warning: &Warning) {
    output::log(&Line {
        level: Level::Warn,
        logger,
        caller: concat!(file!(), ":", line!()),
        message: "retrying of unary invoker failed",
        fields: Object::zap()
            .string("target", &warning.target)
            .string("peer", &warning.peer)
            .string("method", warning.method)
            .plain("attempt", warning.attempt)
            .string("error", &warning.error),
    });
}

fn ask_password() -> CommandResult<String> {
    output::out(b"Password: ");
    let mut line = String::new();
    match std::io::stdin().read_line(&mut line) {
        Ok(1..) => Ok(line.trim_end_matches(['\r', '\n']).to_string()),
        Ok(0) => Err(Code::Error.with("EOF")),
        Err(error) => Err(Code::Error.with(error)),
    }
}

/// The output of `options`.
pub(crate) fn options() -> String {
    let flags = cli::flag_usages(ROOT.persistent);
    format!("The following options can be passed to any command:\n\n{flags}")
}
