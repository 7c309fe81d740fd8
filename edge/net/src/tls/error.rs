//! Why TLS cannot be set up, and why a handshake has failed, in the words of Go's `crypto/tls` and
//! `crypto/x509` where they have some.

use rustls::{AlertDescription, CertificateError, InvalidMessage};
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why TLS cannot be set up.
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsError {
    /// A file could not be read or written.
    File {
        /// Its path.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The content of a file is not valid.
    Content {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The settings are wrong, or do not fit together.
    Settings(String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, source } => {
                write!(f, "open {}: {}", path.display(), crate::system_words(source))
            }
            Self::Content { path, what } => write!(f, "{}: {what}", path.display()),
            Self::Settings(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            Self::Content { .. } | Self::Settings(_) => None,
        }
    }
}

/// Why a connection was not opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The connection has failed, or one of both sides has refused the other.
    Io(io::Error),
    /// The other side did not finish within the time limit.
    Timeout,
    /// The certificate of the other side does not fit its address.
    Source(String),
    /// The place of the connection was needed for another one.
    Displaced,
}

impl HandshakeError {
    /// Whether the other side has closed the connection without an alert.
    #[must_use]
    pub fn is_eof(&self) -> bool {
        match self {
            Self::Io(error) => matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
            ),
            Self::Timeout | Self::Source(_) | Self::Displaced => false,
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => f.write_str(&words(error)),
            Self::Timeout => f.write_str("tls: handshake timed out"),
            Self::Source(what) => f.write_str(what),
            Self::Displaced => f.write_str("the place was needed for another connection"),
        }
    }
}

impl std::error::Error for HandshakeError {}

fn words(error: &io::Error) -> String {
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return tls_words(error);
    }
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return "EOF".to_owned();
    }
    crate::system_words(error)
}

fn tls_words(error: &rustls::Error) -> String {
    if let rustls::Error::AlertReceived(alert) = error {
        let known = ALERTS.iter().find(|(code, _)| code == alert);
        let text = known.map_or_else(|| format!("{alert:?}"), |(_, text)| (*text).to_owned());
        return format!("remote error: tls: {text}");
    }
    if let rustls::Error::InvalidCertificate(error) = error {
        return format!("tls: failed to verify certificate: {}", certificate_words(error));
    }
    if matches!(error, rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) {
        return "tls: first record does not look like a TLS handshake".to_owned();
    }
    if matches!(error, rustls::Error::NoCertificatesPresented) {
        return "tls: client didn't provide a certificate".to_owned();
    }
    format!("tls: {error}")
}

fn certificate_words(error: &CertificateError) -> String {
    if let CertificateError::Other(error) = error {
        return error.to_string();
    }
    if let CertificateError::NotValidForNameContext { expected, presented } = error {
        let name = |text: &String| match text.split_once('(') {
            Some((_, inner)) => inner.trim_matches(['"', ')']).to_owned(),
            None => text.clone(),
        };
        let presented: Vec<String> = presented.iter().map(name).collect();
        let (presented, expected) = (presented.join(", "), expected.to_str());
        return format!("x509: certificate is valid for {presented}, not {expected}");
    }
    let is_out_of_time = matches!(
        error,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    );
    let is_misused = matches!(
        error,
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. }
    );
    let what = if is_out_of_time {
        "certificate has expired or is not yet valid".to_owned()
    } else if is_misused {
        "certificate specifies an incompatible key usage".to_owned()
    } else if *error == CertificateError::UnknownIssuer {
        "certificate signed by unknown authority".to_owned()
    } else if *error == CertificateError::BadSignature {
        "invalid signature".to_owned()
    } else {
        error.to_string()
    };
    format!("x509: {what}")
}

/// Go's names of the alerts that occur in handshakes.
const ALERTS: &[(AlertDescription, &str)] = &[
    (AlertDescription::HandshakeFailure, "handshake failure"),
    (AlertDescription::BadCertificate, "bad certificate"),
    (AlertDescription::UnsupportedCertificate, "unsupported certificate"),
    (AlertDescription::CertificateRevoked, "revoked certificate"),
    (AlertDescription::CertificateExpired, "expired certificate"),
    (AlertDescription::CertificateUnknown, "unknown certificate"),
    (AlertDescription::UnknownCA, "unknown certificate authority"),
    (AlertDescription::AccessDenied, "access denied"),
    (AlertDescription::DecodeError, "error decoding message"),
    (AlertDescription::DecryptError, "error decrypting message"),
    (AlertDescription::ProtocolVersion, "protocol version not supported"),
    (AlertDescription::InsufficientSecurity, "insufficient security level"),
    (AlertDescription::InternalError, "internal error"),
    (AlertDescription::UnrecognisedName, "unrecognized name"),
    (AlertDescription::CertificateRequired, "certificate required"),
    (AlertDescription::NoApplicationProtocol, "no application protocol"),
];
