//! The clients.

/// The ecosystem of a client, which determines how it is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// `go`, with a `go.mod` and a `go.sum` for each version.
    Go,
    /// `python3`, with a virtual environment for each library.
    Python,
    /// `node` and `npm`, with a lock file.
    Node,
    /// A JDK and `mvn`.
    Java,
}

/// One client library at one version, and how its program is called.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// The name of the library.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Its ecosystem.
    pub language: Language,
    /// The argument of the program, which selects its steps.
    pub does: &'static str,
    /// The `:authority` that the program sets in the library; empty for the library's own.
    pub authority: &'static str,
    /// True if it is part of the short run.
    pub is_short: bool,
}

impl Client {
    /// Name, version and argument, in one word.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}-{}-{}", self.name, self.version, self.does)
    }
}

const fn go(version: &'static str, is_short: bool) -> Client {
    Client {
        name: "clientv3",
        version,
        language: Language::Go,
        does: "steps",
        authority: "",
        is_short,
    }
}

const fn other(name: &'static str, version: &'static str, language: Language) -> Client {
    Client { name, version, language, does: "steps", authority: "", is_short: true }
}

/// All clients, in the order in which they run.
///
/// clientv3 3.5.0 sends `#initially=[…]` as the authority. Its programs therefore set another one,
/// except for the steps about endpoints.
pub const CLIENTS: [Client; 10] = [
    other("python-etcd3", "0.12.0", Language::Python),
    other("python-aetcd", "1.0.0", Language::Python),
    other("node-etcd3", "1.1.2", Language::Node),
    go("3.4.21", true),
    Client { authority: "localhost", ..go("3.5.0", false) },
    go("3.5.30", false),
    go("3.6.16", false),
    go("3.7.3", true),
    Client { does: "kubernetes", ..go("3.7.3", true) },
    other("jetcd", "0.8.6", Language::Java),
];
