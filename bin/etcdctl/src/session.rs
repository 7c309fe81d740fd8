//! The printer and the client, made from global flags and environment.
//!
//! Source: etcd v3.7.1 etcdctl/ctlv3/command/global.go.

use crate::commands::ROOT;
use crate::failure::{Code, CommandResult};
use crate::output;
use crate::printer::Printer;
use cli::json::Object;
use cli::log::{Level, Line};
use cli::{Flags, Format, Parsed};
use client::{Client, Config, KeyPair, TlsOptions, Warning};
use dns::Resolver;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStringExt as _;
use std::sync::Arc;
use std::time::Duration;
use terminal::ask_password;

const PREFIX: &str = "ETCDCTL";
/// Variables that only `watch` reads. They do not belong to flags.
const WATCH_VARIABLES: [&str; 2] = ["ETCDCTL_WATCH_KEY", "ETCDCTL_WATCH_RANGE_END"];
/// Chooses the version of the API. There is only 3.
const API_VARIABLE: &str = "ETCDCTL_API";

/// Refuses every version of the API but 3, in the words of etcdctl 3.5.
pub(crate) fn check_api() -> CommandResult {
    let version = std::env::var_os(API_VARIABLE).unwrap_or_default();
    if version.is_empty() || version == "3" {
        return Ok(());
    }
    Err(Code::Error.with(format!("unsupported API version: {}", version.display())))
}

/// One of the clusters that a command may talk to. Each has its own flags for TLS and the user.
struct Side {
    /// The prefix of its flags' names.
    prefix: &'static str,
    /// Whether it has all client flags. The destination of `make-mirror` has only some.
    has_all_flags: bool,
    /// The prompt for its password.
    prompt: &'static str,
}

const SERVERS: Side = Side { prefix: "", has_all_flags: true, prompt: "Password: " };
const DESTINATION: Side =
    Side { prefix: "dest-", has_all_flags: false, prompt: "Destination Password: " };

impl Side {
    fn flag(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

/// A parsed command that is ready to run.
pub(crate) struct Session {
    /// The flags. [`Session::open`] adds those that the environment sets.
    pub(crate) flags: Flags,
    /// The arguments.
    pub(crate) args: cli::Words,
    /// The number of arguments before `--`, if there is one.
    pub(crate) dash: Option<usize>,
    /// The name of the command, with those of its parents.
    pub(crate) name: String,
    /// Set by [`Session::open`].
    pub(crate) printer: Printer,
    /// The servers: those of the SRV records, or else those of `--endpoints`. Set by
    /// [`Session::open`].
    pub(crate) endpoints: Vec<String>,
    inherited: Vec<&'static str>,
    /// The name of the client's logger.
    logger: &'static str,
}

impl Session {
    pub(crate) fn new(parsed: Parsed) -> Session {
        let (name, inherited) = (parsed.name(), parsed.inherited());
        let printer = Printer { format: Format::Simple, hex: false, value_only: false };
        let Parsed { flags, args, dash, path: _ } = parsed;
        let (endpoints, logger) = (Vec::new(), "etcd-client");
        Session { flags, args, dash, name, printer, endpoints, inherited, logger }
    }

    /// The arguments as text; invalid UTF-8 is replaced.
    pub(crate) fn words(&self) -> Vec<String> {
        self.args.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    }

    /// Reads the environment and the global flags. Returns the client's configuration.
    pub(crate) fn open(&mut self) -> CommandResult<Config> {
        self.prepare()?;
        let config = self.config(&SERVERS, &self.endpoints)?;
        self.set_printer()?;
        Ok(config)
    }

    /// As [`Session::open`]. Also returns the client configuration for the destination cluster,
    /// which has flags of its own.
    pub(crate) fn open_with_destination(
        &mut self,
        destination: String,
    ) -> CommandResult<(Config, Config)> {
        self.prepare()?;
        let destination = self.config(&DESTINATION, &[destination])?;
        let source = self.config(&SERVERS, &self.endpoints)?;
        self.set_printer()?;
        Ok((source, destination))
    }

    fn prepare(&mut self) -> CommandResult {
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
        self.refuse_empty_files()?;
        self.endpoints = self.find_endpoints()?;
        Ok(())
    }

    /// The endpoints of the SRV records, if `--discovery-srv` names a domain that has some that may
    /// be used; otherwise those of `--endpoints`.
    fn find_endpoints(&self) -> CommandResult<Vec<String>> {
        let (mut endpoints, domain) = (Vec::new(), self.flags.text("discovery-srv"));
        if !domain.is_empty() {
            let suffix = self.flags.text("discovery-srv-name");
            let found = dns::client_endpoints(&Resolver::system(), &domain, &suffix);
            endpoints
                .extend(found.map_err(|why| Code::Error.with(why))?.into_iter().map(|e| e.url));
        }
        if !self.flags.bool("insecure-discovery") {
            endpoints.retain(|url| {
                let is_secure = !url.starts_with("http://");
                if !is_secure {
                    output::error_line(&format!("ignoring discovered insecure endpoint {url:?}"));
                }
                is_secure
            });
        }
        if endpoints.is_empty() {
            endpoints = self.flags.list("endpoints");
            endpoints.iter_mut().for_each(|endpoint| *endpoint = endpoint.trim().to_owned());
        }
        Ok(endpoints)
    }

    fn set_printer(&mut self) -> CommandResult {
        let format = Format::parse(&self.flags.text("write-out"));
        let unsupported = || Code::BadFeature.with("unsupported output format");
        self.printer.format = format.ok_or_else(unsupported)?;
        self.printer.hex = self.flags.bool("hex");
        Ok(())
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
        // Scripts for 3.4 set it; `main` has checked its value.
        let chosen = format!("{API_VARIABLE}=");
        for variable in unused.unrecognized.iter().filter(|it| !it.starts_with(&chosen)) {
            log(Level::Warn, "unrecognized environment variable", variable);
        }
        let Some(variable) = &unused.shadowed else { return Ok(()) };
        let message = "conflicting environment variable is shadowed by corresponding command-line \
                       flag (either unset environment variable or disable flag))";
        log(Level::Fatal, message, variable);
        Err(Code::Error.silent())
    }

    fn refuse_empty_files(&self) -> CommandResult {
        for name in ["cert", "key", "cacert"] {
            if self.flags.changed(name) && self.flags.bytes(name).is_empty() {
                let text = format!("empty string is passed to --{name} option");
                return Err(Code::BadArgs.with(text));
            }
        }
        Ok(())
    }

    /// The TLS options, if a flag requires TLS. As in etcd since 3.6, `--insecure-skip-tls-verify` alone
    /// does.
    fn tls(&self, side: &Side) -> CommandResult<Option<TlsOptions>> {
        let flags = &self.flags;
        let file = |name: &str| Some(flags.text(&side.flag(name))).filter(|path| !path.is_empty());
        let pair = match (file("cert"), file("key")) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some(KeyPair { cert: cert.into(), key: key.into() }),
            (cert, key) => {
                let (cert, key) = (cert.unwrap_or_default(), key.unwrap_or_default());
                return Err(Code::BadArgs.with(format!(
                    "KeyFile and CertFile must both be present[key: {key}, cert: {cert}]"
                )));
            }
        };
        let trusted_ca = file("cacert").map(Into::into);
        let server_name = self.verified_domain().filter(|_| side.has_all_flags);
        let skips_verification = side.has_all_flags && flags.bool("insecure-skip-tls-verify");
        let is_asked = pair.is_some()
            || trusted_ca.is_some()
            || server_name.is_some()
            || skips_verification
            || !flags.bool(&side.flag("insecure-transport"));
        Ok(is_asked.then(|| TlsOptions {
            pair,
            trusted_ca,
            server_name,
            skips_verification,
            ..TlsOptions::default()
        }))
    }

    /// The domain of the SRV records, if the servers' certificates have to be valid for it.
    fn verified_domain(&self) -> Option<String> {
        let domain = self.flags.text("discovery-srv");
        let is_verified = !domain.is_empty() && !self.flags.bool("insecure-discovery");
        is_verified.then(|| domain.trim_end_matches('.').to_owned())
    }

    fn config(&self, side: &Side, endpoints: &[String]) -> CommandResult<Config> {
        let flags = &self.flags;
        let mut config = Config::new(endpoints.to_vec());
        config.tls = self.tls(side)?;
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
                // The client rejects a request limit above this one. That must not happen with the
                // default, so the default is lowered.
                config.request_bytes_max = config.request_bytes_max.min(max);
            }
        }
        let token = if side.has_all_flags { flags.text("auth-jwt-token") } else { String::new() };
        if token.is_empty() {
            config.user = self.user(side)?;
        } else {
            config.token = Some(token);
        }
        let logger = self.logger;
        config.on_warning = Some(Arc::new(move |warning| warn(logger, warning)));
        Ok(config)
    }

    /// The user's name and password. Asks for the password if no flag gives it.
    fn user(&self, side: &Side) -> CommandResult<Option<(String, String)>> {
        let [user, password] = ["user", "password"].map(|name| self.flags.text(&side.flag(name)));
        if user.is_empty() {
            return Ok(None);
        }
        Ok(Some(match user.split_once(':') {
            _ if !password.is_empty() => (user, password),
            Some((name, password)) => (name.to_string(), password.to_string()),
            None => (user, ask_password(side.prompt).map_err(|why| Code::Error.with(why))?),
        }))
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
        self.report_while_unconnected_to(self.endpoints.join(","), client)
    }

    /// As [`Session::report_while_unconnected`], for a client of these endpoints.
    pub(crate) fn report_while_unconnected_to(
        &self,
        endpoints: String,
        client: Client,
    ) -> impl Future<Output = ()> + Send + 'static {
        /// With a timeout of 0 the message would be printed without a pause.
        const PAUSE_MIN: Duration = Duration::from_secs(1);
        let pause = self.flags.duration("command-timeout").max(PAUSE_MIN);
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

/// The output of `options`.
pub(crate) fn options() -> String {
    let flags = cli::flag_usages(ROOT.persistent);
    format!("The following options can be passed to any command:\n\n{flags}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cli::Invocation;

    fn tls(flags: &[&str]) -> Option<TlsOptions> {
        let words: cli::Words =
            flags.iter().chain(&["get", "k"]).map(|word| word.as_bytes().to_vec()).collect();
        let Invocation::Run(parsed) = cli::parse(&ROOT, &words) else { panic!("{flags:?}") };
        Session::new(parsed).tls(&SERVERS).unwrap()
    }

    #[test]
    fn skipping_the_verification_turns_tls_on() {
        assert!(tls(&[]).is_none());
        assert!(tls(&["--insecure-skip-tls-verify"]).unwrap().skips_verification);
        assert!(!tls(&["--insecure-transport=false"]).unwrap().skips_verification);
    }
}
