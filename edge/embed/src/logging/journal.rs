//! The journal of systemd: each line of the log is one datagram with its fields.
//!
//! Source: etcd client/pkg/logutil/zap_journal.go @ v3.7.1; systemd's "Native Journal Protocol".

use cli::log::Level;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// The socket of the journal.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// A connection to the journal.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    /// The name of the program.
    identifier: String,
}

impl Journal {
    /// Connects to the journal at this socket.
    ///
    /// # Errors
    /// When there is no journal.
    pub(super) fn connect(path: &Path) -> io::Result<Journal> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        let program = std::env::args_os().next().unwrap_or_default();
        let identifier = Path::new(&program).file_name().unwrap_or_default();
        Ok(Journal { socket, identifier: identifier.to_string_lossy().into_owned() })
    }

    /// Writes a line of this level, from this place in the source.
    ///
    /// # Errors
    /// When the journal does not take it. A line that is longer than a datagram may be is one.
    pub(super) fn write(&self, level: Level, caller: &str, line: &str) -> io::Result<()> {
        let package = Path::new(caller).parent().and_then(Path::to_str).unwrap_or_default();
        let mut fields = Vec::with_capacity(line.len() + 128);
        field(&mut fields, "PRIORITY", &priority(level).to_string());
        field(&mut fields, "PACKAGE", package);
        field(&mut fields, "SYSLOG_IDENTIFIER", &self.identifier);
        field(&mut fields, "MESSAGE", line.trim_end());
        self.socket.send(&fields).map(drop)
    }
}

/// The priority of syslog.
fn priority(level: Level) -> u8 {
    match level {
        Level::Debug => 7,
        Level::Info => 6,
        Level::Warn => 4,
        Level::Error => 3,
        Level::Panic | Level::Fatal => 2,
    }
}

/// Adds a field. A value with a line feed is preceded by its length.
fn field(to: &mut Vec<u8>, name: &str, value: &str) {
    to.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        to.push(b'\n');
        to.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        to.push(b'=');
    }
    to.extend_from_slice(value.as_bytes());
    to.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_a_datagram_with_its_level_and_package() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let absent = Journal::connect(&path).unwrap_err();
        assert_eq!(absent.kind(), io::ErrorKind::NotFound);
        let server = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::connect(&path).unwrap();
        journal.write(Level::Warn, "embed/run.rs:7", "{\"level\":\"warn\"}\n").unwrap();
        let mut bytes = [0; 1024];
        let len = server.recv(&mut bytes).unwrap();
        let text = std::str::from_utf8(&bytes[..len]).unwrap();
        let identifier = &journal.identifier;
        assert!(!identifier.is_empty() && !identifier.contains('/'));
        assert_eq!(
            text,
            format!(
                "PRIORITY=4\nPACKAGE=embed\nSYSLOG_IDENTIFIER={identifier}\nMESSAGE={{\"level\":\"warn\"}}\n"
            )
        );
        journal.write(Level::Fatal, "run.rs:7", "two\nlines\n").unwrap();
        let len = server.recv(&mut bytes).unwrap();
        assert!(bytes[..len].starts_with(b"PRIORITY=2\nPACKAGE=\n"));
        assert!(bytes[..len].ends_with(b"MESSAGE\n\x09\0\0\0\0\0\0\0two\nlines\n"));
    }
}
