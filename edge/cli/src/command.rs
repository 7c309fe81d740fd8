//! Commands and flags as constant tables.

/// How a flag's value is read and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `--flag`, `--flag=true`.
    Bool,
    /// Any bytes.
    Text,
    /// A signed number, 0x, 0o and 0b allowed.
    Int,
    /// A number without sign.
    Uint,
    /// A decimal number.
    Float,
    /// Go's notation: `1m30s`.
    Duration,
    /// Separated by commas; given again, it adds.
    List,
}

/// One flag.
#[derive(Debug)]
pub struct Flag {
    /// The word behind `--`.
    pub name: &'static str,
    /// The letter behind `-`.
    pub short: Option<char>,
    /// How its value is read.
    pub kind: Kind,
    /// Its value when it is not given, in the notation of the command line.
    pub default: &'static str,
    /// One line for the help.
    pub help: &'static str,
    /// Whether a command line without it is refused.
    pub required: bool,
    /// What a shell offers as its value.
    pub offer: Offer,
    /// Whether help and completion leave it out.
    pub is_unlisted: bool,
}

/// What a shell's completion offers as the value of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Files, as shells do by themselves.
    Files,
    /// Directories.
    Directories,
    /// These words and nothing else.
    Words(&'static [&'static str]),
}

impl Flag {
    /// A flag that is false when not given.
    #[must_use]
    pub const fn switch(name: &'static str, help: &'static str) -> Flag {
        Flag::new(name, Kind::Bool, "false", help)
    }

    /// A flag of any kind.
    #[must_use]
    pub const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        help: &'static str,
    ) -> Flag {
        let (required, offer, is_unlisted) = (false, Offer::Files, false);
        Flag { name, short: None, kind, default, help, required, offer, is_unlisted }
    }

    /// The same flag with a letter.
    #[must_use]
    pub const fn short(self, letter: char) -> Flag {
        Flag { short: Some(letter), ..self }
    }

    /// The same flag, without which a command line is refused.
    #[must_use]
    pub const fn required(self) -> Flag {
        Flag { required: true, ..self }
    }

    /// The same flag with what a shell offers as its value.
    #[must_use]
    pub const fn offering(self, offer: Offer) -> Flag {
        Flag { offer, ..self }
    }

    /// The same flag, which help and completion leave out.
    #[must_use]
    pub const fn unlisted(self) -> Flag {
        Flag { is_unlisted: true, ..self }
    }
}

/// The arguments that a command line may have besides flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arguments {
    /// Any; the command checks them itself.
    Any,
    /// One.
    One,
    /// One of these words.
    OneOf(&'static [&'static str]),
}

/// A command, or the program itself.
#[derive(Debug)]
pub struct Command {
    /// The word, then its arguments as the help shows them.
    pub usage: &'static str,
    /// One line.
    pub short: &'static str,
    /// Paragraphs, or nothing.
    pub long: &'static str,
    /// The heading that it stands under in the help of the command above, or nothing.
    pub group: &'static str,
    /// The arguments that are accepted.
    pub arguments: Arguments,
    /// Flags of this command alone.
    pub flags: &'static [Flag],
    /// Flags of this command and those below it.
    pub persistent: &'static [Flag],
    /// Whether the help leaves the persistent flags out.
    pub hidden: bool,
    /// Whether help and completion leave this command out.
    pub is_unlisted: bool,
    /// The headings of the commands below, in their order.
    pub groups: &'static [&'static str],
    /// Commands below, sorted by name. A command that has some does nothing itself.
    pub commands: &'static [Command],
}

impl Command {
    /// A command without flags or commands below; a start for `..`.
    pub const NONE: Command = Command {
        usage: "",
        short: "",
        long: "",
        group: "",
        arguments: Arguments::Any,
        flags: &[],
        persistent: &[],
        hidden: false,
        is_unlisted: false,
        groups: &[],
        commands: &[],
    };

    /// The word that calls it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.usage.split(' ').next().unwrap_or_default()
    }

    /// The commands below that help and completion show.
    pub(crate) fn listed(&self) -> impl Iterator<Item = &'static Command> {
        self.commands.iter().filter(|command| !command.is_unlisted)
    }

    pub(crate) fn is_runnable(&self) -> bool {
        self.commands.is_empty()
    }

    /// The command below that a word means: its name, or the beginning of one name only.
    pub(crate) fn below(&self, word: &[u8]) -> Option<&'static Command> {
        if let Some(exact) = self.commands.iter().find(|c| c.name().as_bytes() == word) {
            return Some(exact);
        }
        // A command that is not listed does not make the beginning of another name ambiguous.
        let matches = |command: &&Command| command.name().as_bytes().starts_with(word);
        let listed: Vec<_> = self.listed().filter(matches).collect();
        let all: Vec<_> = self.commands.iter().filter(matches).collect();
        match (&listed[..], &all[..]) {
            ([only], _) | ([], [only]) => Some(only),
            _ => None,
        }
    }
}
