//! The keys of JSON Web Tokens: reading them from their files, signing and verifying with them.
//!
//! Source: etcd v3.7 server/auth/options.go; golang-jwt v5 {rsa,ecdsa,ed25519}_utils.go for the
//! formats of the files and the words of the errors.

use super::method::{Algorithms, SignMethod};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, ParsedPublicKey, RsaKeyPair,
    RsaSignatureEncoding, VerificationAlgorithm,
};
use std::fmt;
use std::io::Read as _;
use std::mem::take;
use std::path::{Path, PathBuf};
use x509_parser::pem::Pem;
use zeroize::Zeroizing;

/// Signed and verified to find out whether two keys belong together.
const PROBE: &[u8] = b"a public key that belongs to the private key verifies its signature";
/// Comes before a private key in the files of `openssl ecparam`, and holds no key.
const PARAMETERS_LABEL: &str = "EC PARAMETERS";

/// Where the keys are.
#[derive(Clone, Debug)]
pub struct JwtKeyFiles {
    /// `pub-key`: PEM. Each public key in it verifies tokens; one of them belongs to the private
    /// key.
    pub public: Option<PathBuf>,
    /// `priv-key`: PEM, or the secret itself for the methods HS256, HS384 and HS512.
    pub private: Option<PathBuf>,
}

impl JwtKeyFiles {
    /// The files that there are.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.public.iter().chain(&self.private).cloned().collect()
    }
}

/// Why the keys cannot be used.
#[derive(Debug)]
pub(super) enum KeyError {
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    /// There is no key.
    Missing,
    /// No public key belongs to the private key.
    Mismatch,
    Content {
        path: PathBuf,
        what: String,
    },
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::File { path, source } => {
                write!(f, "open {}: {}", path.display(), net::system_words(source))
            }
            KeyError::Missing => f.write_str("auth: missing key data"),
            KeyError::Mismatch => f.write_str("auth: public and private keys don't match"),
            KeyError::Content { path, what } => write!(f, "{}: {what}", path.display()),
        }
    }
}

enum PrivateKey {
    Secret(Box<hmac::Key>),
    Rsa(RsaKeyPair, &'static RsaSignatureEncoding),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

enum PublicKey {
    Secret(Box<hmac::Key>),
    Key(ParsedPublicKey),
}

/// The keys for one method.
pub(super) struct SigningKeys {
    /// `None` if there are only public keys, so that tokens can only be verified.
    private: Option<PrivateKey>,
    /// At least one.
    public: Vec<PublicKey>,
}

impl SigningKeys {
    /// Reads the keys from their files.
    pub(super) fn read(method: SignMethod, files: &JwtKeyFiles) -> Result<SigningKeys, KeyError> {
        let private = files.private.as_deref().map(|path| private_key(method, path)).transpose()?;
        let private = private.flatten();
        let mut public = match (&files.public, method.algorithms) {
            // As in etcd, a secret is the private key.
            (None, _) | (Some(_), Algorithms::Hmac(_)) => Vec::new(),
            (Some(path), _) => public_keys(method, path)?,
        };
        match &private {
            None if public.is_empty() => return Err(KeyError::Missing),
            None => {}
            Some(private) if public.is_empty() => public.push(private.public(method)?),
            Some(private) => {
                let signature = private.sign(PROBE).ok_or(KeyError::Mismatch)?;
                if !public.iter().any(|key| key.verifies(PROBE, &signature)) {
                    return Err(KeyError::Mismatch);
                }
            }
        }
        Ok(SigningKeys { private, public })
    }

    /// Whether tokens can be signed.
    pub(super) fn can_sign(&self) -> bool {
        self.private.is_some()
    }

    /// The signature of a message; `None` if there is no private key, or it cannot sign.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        self.private.as_ref()?.sign(message)
    }

    /// Whether one of the public keys verifies the signature.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.public.iter().any(|key| key.verifies(message, signature))
    }
}

impl PrivateKey {
    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            PrivateKey::Secret(key) => Some(hmac::sign(key, message).as_ref().to_vec()),
            PrivateKey::Rsa(key, encoding) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(*encoding, &random, message, &mut signature).ok()?;
                Some(signature)
            }
            PrivateKey::Ecdsa(key) => Some(key.sign(&random, message).ok()?.as_ref().to_vec()),
            PrivateKey::Ed25519(key) => Some(key.try_sign(message).ok()?.as_ref().to_vec()),
        }
    }

    /// The public key that belongs to it.
    fn public(&self, method: SignMethod) -> Result<PublicKey, KeyError> {
        let bytes = match self {
            PrivateKey::Secret(key) => return Ok(PublicKey::Secret(key.clone())),
            PrivateKey::Rsa(key, _) => key.public_key().as_ref(),
            PrivateKey::Ecdsa(key) => key.public_key().as_ref(),
            PrivateKey::Ed25519(key) => key.public_key().as_ref(),
        };
        parsed(method, bytes).ok_or(KeyError::Mismatch)
    }
}

impl PublicKey {
    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            PublicKey::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            PublicKey::Key(key) => key.verify_sig(message, signature).is_ok(),
        }
    }
}

/// A public key in one of the formats of its kind.
fn parsed(method: SignMethod, bytes: &[u8]) -> Option<PublicKey> {
    let algorithm: &'static dyn VerificationAlgorithm = match method.algorithms {
        Algorithms::Hmac(_) => return None,
        Algorithms::Rsa(_, verify) => verify,
        Algorithms::Ecdsa(_, verify) => verify,
        Algorithms::Ed25519 => &ED25519,
    };
    let key = ParsedPublicKey::new(algorithm, bytes).ok()?;
    Some(PublicKey::Key(key))
}

/// The content of a file, which is overwritten with zeros when it is dropped.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let failed = |source| KeyError::File { path: path.to_owned(), source };
    let mut file = std::fs::File::open(path).map_err(failed)?;
    // In one piece: a buffer that grows would leave copies.
    let len = file.metadata().map_err(failed)?.len();
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let mut content = Zeroizing::new(Vec::new());
    content.try_reserve_exact(len).map_err(|_| failed(std::io::ErrorKind::OutOfMemory.into()))?;
    file.read_to_end(&mut content).map_err(failed)?;
    Ok(content)
}

/// The PEM blocks of a file that can hold keys; at least one.
fn blocks(path: &Path, text: &[u8]) -> Result<Vec<Pem>, KeyError> {
    let blocks: Result<Vec<Pem>, _> = Pem::iter_from_buffer(text).collect();
    let mut blocks = blocks.unwrap_or_default();
    blocks.retain(|block| block.label != PARAMETERS_LABEL);
    if blocks.is_empty() {
        let what = "invalid key: Key must be a PEM encoded PKCS1 or PKCS8 key".to_owned();
        return Err(KeyError::Content { path: path.to_owned(), what });
    }
    Ok(blocks)
}

fn not_valid(method: SignMethod, kind: &str, path: &Path) -> KeyError {
    let what = format!(
        "key is not a valid {} {kind} key for {}",
        method.algorithms.key_name(),
        method.name
    );
    KeyError::Content { path: path.to_owned(), what }
}

/// The private key of a file; `None` if the file is empty, as in etcd.
fn private_key(method: SignMethod, path: &Path) -> Result<Option<PrivateKey>, KeyError> {
    let text = read(path)?;
    if text.is_empty() {
        return Ok(None);
    }
    if let Algorithms::Hmac(algorithm) = method.algorithms {
        return Ok(Some(PrivateKey::Secret(Box::new(hmac::Key::new(algorithm, &text)))));
    }
    let mut blocks = blocks(path, &text)?;
    let blocks: Vec<Zeroizing<Vec<u8>>> =
        blocks.iter_mut().map(|block| Zeroizing::new(take(&mut block.contents))).collect();
    let der = &blocks[0];
    let key = match method.algorithms {
        Algorithms::Hmac(_) => None,
        Algorithms::Rsa(encoding, _) => RsaKeyPair::from_der(der)
            .or_else(|_| RsaKeyPair::from_pkcs8(der))
            .ok()
            .map(|key| PrivateKey::Rsa(key, encoding)),
        Algorithms::Ecdsa(algorithm, _) => {
            EcdsaKeyPair::from_private_key_der(algorithm, der).ok().map(PrivateKey::Ecdsa)
        }
        Algorithms::Ed25519 => {
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok().map(PrivateKey::Ed25519)
        }
    };
    key.map(Some).ok_or_else(|| not_valid(method, "private", path))
}

/// The public keys of a file; none if the file is empty, as in etcd.
fn public_keys(method: SignMethod, path: &Path) -> Result<Vec<PublicKey>, KeyError> {
    let text = read(path)?;
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let keys = blocks(path, &text)?.into_iter().map(|block| {
        let of_certificate =
            block.parse_x509().ok().map(|it| it.tbs_certificate.subject_pki.raw.to_vec());
        let bytes = of_certificate.unwrap_or(block.contents);
        parsed(method, &bytes).ok_or_else(|| not_valid(method, "public", path))
    });
    keys.collect()
}
