//! The methods that a JSON Web Token can be signed with.
//!
//! Source: RFC 7518 §3, RFC 8037; etcd v3.7 server/auth/options.go.

use aws_lc_rs::hmac::{HMAC_SHA256, HMAC_SHA384, HMAC_SHA512};
use aws_lc_rs::signature as signatures;
use aws_lc_rs::signature::{
    EcdsaSigningAlgorithm, EcdsaVerificationAlgorithm, RsaParameters, RsaSignatureEncoding,
};

/// A method's algorithms.
#[derive(Clone, Copy)]
pub(super) enum Algorithms {
    /// One secret, which signs and verifies.
    Hmac(aws_lc_rs::hmac::Algorithm),
    Rsa(&'static RsaSignatureEncoding, &'static RsaParameters),
    Ecdsa(&'static EcdsaSigningAlgorithm, &'static EcdsaVerificationAlgorithm),
    Ed25519,
}

impl Algorithms {
    /// The name of the keys, in messages.
    pub(super) fn key_name(self) -> &'static str {
        match self {
            Algorithms::Hmac(_) => "HMAC",
            Algorithms::Rsa(..) => "RSA",
            Algorithms::Ecdsa(..) => "ECDSA",
            Algorithms::Ed25519 => "Ed25519",
        }
    }
}

/// A method by its name in the tokens' header.
#[derive(Clone, Copy)]
pub struct SignMethod {
    /// Its name, such as `RS256`.
    pub name: &'static str,
    pub(super) algorithms: Algorithms,
}

impl std::fmt::Debug for SignMethod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const fn rsa(
    name: &'static str,
    sign: &'static RsaSignatureEncoding,
    verify: &'static RsaParameters,
) -> SignMethod {
    SignMethod { name, algorithms: Algorithms::Rsa(sign, verify) }
}

const fn ecdsa(
    name: &'static str,
    sign: &'static EcdsaSigningAlgorithm,
    verify: &'static EcdsaVerificationAlgorithm,
) -> SignMethod {
    SignMethod { name, algorithms: Algorithms::Ecdsa(sign, verify) }
}

/// All methods of etcd.
pub(super) static METHODS: [SignMethod; 13] = [
    rsa("RS256", &signatures::RSA_PKCS1_SHA256, &signatures::RSA_PKCS1_2048_8192_SHA256),
    rsa("RS384", &signatures::RSA_PKCS1_SHA384, &signatures::RSA_PKCS1_2048_8192_SHA384),
    rsa("RS512", &signatures::RSA_PKCS1_SHA512, &signatures::RSA_PKCS1_2048_8192_SHA512),
    rsa("PS256", &signatures::RSA_PSS_SHA256, &signatures::RSA_PSS_2048_8192_SHA256),
    rsa("PS384", &signatures::RSA_PSS_SHA384, &signatures::RSA_PSS_2048_8192_SHA384),
    rsa("PS512", &signatures::RSA_PSS_SHA512, &signatures::RSA_PSS_2048_8192_SHA512),
    ecdsa(
        "ES256",
        &signatures::ECDSA_P256_SHA256_FIXED_SIGNING,
        &signatures::ECDSA_P256_SHA256_FIXED,
    ),
    ecdsa(
        "ES384",
        &signatures::ECDSA_P384_SHA384_FIXED_SIGNING,
        &signatures::ECDSA_P384_SHA384_FIXED,
    ),
    ecdsa(
        "ES512",
        &signatures::ECDSA_P521_SHA512_FIXED_SIGNING,
        &signatures::ECDSA_P521_SHA512_FIXED,
    ),
    SignMethod { name: "HS256", algorithms: Algorithms::Hmac(HMAC_SHA256) },
    SignMethod { name: "HS384", algorithms: Algorithms::Hmac(HMAC_SHA384) },
    SignMethod { name: "HS512", algorithms: Algorithms::Hmac(HMAC_SHA512) },
    SignMethod { name: "EdDSA", algorithms: Algorithms::Ed25519 },
];

impl SignMethod {
    /// The method of this name. `none`, which signs nothing, is not a method.
    #[must_use]
    pub fn named(name: &str) -> Option<SignMethod> {
        METHODS.iter().find(|method| method.name == name).copied()
    }
}
