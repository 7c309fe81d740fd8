//! Every method, and what is refused: wrong keys, methods, times, claims and files.

use super::method::METHODS;
use super::*;
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use base64::engine::general_purpose::STANDARD;
use method::Algorithms;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const TTL: Duration = Duration::from_secs(300);

/// A time, in seconds since 1970.
fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn alice() -> JwtClaims {
    JwtClaims { user: "alice".to_owned(), auth_revision: 7 }
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// A private key and its public key as PEM. RSA keys take long to make, so there are two.
fn new_keys(method: SignMethod, other: bool) -> (String, String) {
    static RSA: [OnceLock<(String, String)>; 2] = [const { OnceLock::new() }; 2];
    match method.algorithms {
        Algorithms::Hmac(_) => (format!("secret {other}"), String::new()),
        Algorithms::Rsa(..) => RSA[usize::from(other)]
            .get_or_init(|| {
                let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
                let public = key.public_key().as_der().unwrap();
                (
                    pem("PRIVATE KEY", key.as_der().unwrap().as_ref()),
                    pem("PUBLIC KEY", public.as_ref()),
                )
            })
            .clone(),
        Algorithms::Ecdsa(algorithm, _) => {
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
            let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref()).unwrap();
            let public = key.public_key().as_der().unwrap();
            (pem("PRIVATE KEY", pkcs8.as_ref()), pem("PUBLIC KEY", public.as_ref()))
        }
        Algorithms::Ed25519 => {
            let pkcs8 = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).unwrap();
            let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8.as_ref()).unwrap();
            let public = key.public_key().as_der().unwrap();
            (pem("PRIVATE KEY", pkcs8.as_ref()), pem("PUBLIC KEY", public.as_ref()))
        }
    }
}

/// Key files in a folder.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Options with the private key alone.
    fn private(&self, method: SignMethod, private: &str) -> JwtOptions {
        let private = Some(self.write("private", private));
        JwtOptions { method, files: JwtKeyFiles { public: None, private }, ttl: TTL }
    }

    /// Options with the public key alone.
    fn public(&self, method: SignMethod, public: &str) -> JwtOptions {
        let public = Some(self.write("public", public));
        JwtOptions { method, files: JwtKeyFiles { public, private: None }, ttl: TTL }
    }
}

fn named(name: &str) -> SignMethod {
    SignMethod::named(name).unwrap()
}

fn segment(json: &str) -> String {
    URL_SAFE_NO_PAD.encode(json)
}

#[test]
fn every_method_signs_and_verifies() {
    let mut names = Vec::new();
    for method in METHODS {
        let files = Files::new();
        let (private, public) = new_keys(method, false);
        let jwt = Jwt::open(&files.private(method, &private)).unwrap();
        let token = jwt.sign(&alice(), at(1_000)).unwrap();
        assert_eq!(jwt.verify(&token, at(1_000)), Ok(alice()), "{method:?}");
        let other = new_keys(method, true).0;
        let other = Jwt::open(&Files::new().private(method, &other)).unwrap();
        assert_eq!(other.verify(&token, at(1_000)), Err(InvalidJwt::Signature), "{method:?}");
        names.push(method.name);
        if matches!(method.algorithms, Algorithms::Hmac(_)) {
            continue;
        }
        let verifier = Jwt::open(&files.public(method, &public)).unwrap();
        assert_eq!(verifier.verify(&token, at(1_000)), Ok(alice()), "{method:?}");
        assert_eq!(verifier.sign(&alice(), at(1_000)), Err(CannotSign::VerifyOnly));
    }
    names.sort_unstable();
    let want = "ES256 ES384 ES512 EdDSA HS256 HS384 HS512 PS256 PS384 PS512 RS256 RS384 RS512";
    assert_eq!(names.join(" "), want);
}

#[test]
fn a_changed_token_is_not_valid() {
    let method = named("ES256");
    let (private, _) = new_keys(method, false);
    let jwt = Jwt::open(&Files::new().private(method, &private)).unwrap();
    let token = jwt.sign(&alice(), at(1_000)).unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    let claims = segment(r#"{"exp":9999999999,"revision":7,"username":"root"}"#);
    let changed = |header: &str, claims: &str, signature: &str| {
        jwt.verify(&format!("{header}.{claims}.{signature}"), at(1_000)).unwrap_err()
    };
    assert_eq!(changed(parts[0], &claims, parts[2]), InvalidJwt::Signature);
    assert_eq!(changed(parts[0], parts[1], ""), InvalidJwt::Signature);
    assert_eq!(changed(parts[0], parts[1], &parts[2][2..]), InvalidJwt::Signature);
    assert_eq!(changed(parts[0], parts[1], "!"), InvalidJwt::Malformed);
    assert_eq!(changed("e30", parts[1], parts[2]), InvalidJwt::Method, "no algorithm");
    assert_eq!(changed("x", parts[1], parts[2]), InvalidJwt::Malformed);
    assert_eq!(jwt.verify(&token, at(1_000)), Ok(alice()), "the token itself is still valid");
    for bad in ["", ".", "a.b", "a.b.c.d", "..", &token[..token.len() - 1]] {
        assert!(jwt.verify(bad, at(1_000)).is_err(), "{bad}");
    }
}

#[test]
fn the_method_is_that_of_the_flag_and_not_that_of_the_token() {
    let rs256 = named("RS256");
    let (private, public) = new_keys(rs256, false);
    let jwt = Jwt::open(&Files::new().public(rs256, &public)).unwrap();
    let claims = segment(r#"{"exp":9999999999,"revision":7,"username":"root"}"#);
    for alg in ["none", "None", "NONE", ""] {
        let header = segment(&format!(r#"{{"alg":"{alg}","typ":"JWT"}}"#));
        let unsigned = format!("{header}.{claims}.");
        assert_eq!(jwt.verify(&unsigned, at(1_000)), Err(InvalidJwt::Method), "{alg}");
    }
    // Signed with the public key, which everyone may know, as the secret.
    let forger = Jwt::open(&Files::new().private(named("HS256"), &public)).unwrap();
    let forged = forger.sign(&alice(), at(1_000)).unwrap();
    assert_eq!(jwt.verify(&forged, at(1_000)), Err(InvalidJwt::Method));
    let as_rs256 = forged.replacen(
        &segment(r#"{"alg":"HS256","typ":"JWT"}"#),
        &segment(r#"{"alg":"RS256","typ":"JWT"}"#),
        1,
    );
    assert_eq!(jwt.verify(&as_rs256, at(1_000)), Err(InvalidJwt::Signature));
    // The same key with another method.
    for other in ["RS384", "PS256"] {
        let other = Jwt::open(&Files::new().private(named(other), &private)).unwrap();
        let token = other.sign(&alice(), at(1_000)).unwrap();
        assert_eq!(jwt.verify(&token, at(1_000)), Err(InvalidJwt::Method));
    }
}

/// Tokens with these claims, signed and verified with one secret.
fn with_claims(claims: &str, now: SystemTime) -> Result<JwtClaims, InvalidJwt> {
    let jwt = Jwt::open(&Files::new().private(named("HS256"), "secret")).unwrap();
    let signed = format!("{}.{}", segment(r#"{"alg":"HS256"}"#), segment(claims));
    let signature = jwt.keys().keys.sign(signed.as_bytes()).unwrap();
    jwt.verify(&format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)), now)
}

#[test]
fn a_token_is_valid_before_its_time_has_passed() {
    let jwt = Jwt::open(&Files::new().private(named("HS256"), "secret")).unwrap();
    let token = jwt.sign(&alice(), at(1_000)).unwrap();
    for (now, result) in
        [(1_299, Ok(alice())), (1_300, Err(InvalidJwt::Expired)), (1_000, Ok(alice()))]
    {
        assert_eq!(jwt.verify(&token, at(now)), result, "{now}");
    }
    let times = |exp: &str, nbf: &str, now: u64| {
        let claims = format!(r#"{{"username":"alice","revision":7{exp}{nbf}}}"#);
        with_claims(&claims, at(now))
    };
    assert_eq!(times("", "", 9_999), Ok(alice()), "without a time, as in etcd");
    assert_eq!(times(r#","exp":10.9"#, "", 10), Err(InvalidJwt::Expired), "whole seconds");
    assert_eq!(times(r#","exp":"10""#, "", 9), Err(InvalidJwt::Claims));
    assert_eq!(times("", r#","nbf":10"#, 9), Err(InvalidJwt::NotYetValid));
    assert_eq!(times("", r#","nbf":10"#, 10), Ok(alice()));
}

#[test]
fn issue_15676_the_claims_name_a_user_and_a_revision() {
    let claims = |text: &str| with_claims(text, at(0));
    assert_eq!(claims(r#"{"username":"alice","revision":7}"#), Ok(alice()));
    assert_eq!(claims(r#"{"username":"alice","revision":7.0}"#), Ok(alice()));
    let future = claims(r#"{"username":"alice","revision":18446744073709551615}"#).unwrap();
    assert_eq!(future.auth_revision, u64::MAX);
    for bad in [r#"{"revision":7}"#, r#"{"username":7,"revision":7}"#] {
        assert_eq!(claims(bad), Err(InvalidJwt::User), "{bad}");
    }
    for bad in ["null", "-1", "\"7\"", "true"] {
        let text = format!(r#"{{"username":"alice","revision":{bad}}}"#);
        assert_eq!(claims(&text), Err(InvalidJwt::Revision), "{bad}");
    }
    assert_eq!(claims(r#"{"username":"alice"}"#), Err(InvalidJwt::Revision));
    for bad in ["[]", "7", "{", r#"{"username":"alice","revision":7} x"#] {
        assert_eq!(claims(bad), Err(InvalidJwt::Malformed), "{bad}");
    }
}

#[test]
fn keys_that_cannot_be_used_are_refused_with_etcds_errors() {
    let (rs256, es256, eddsa) = (named("RS256"), named("ES256"), named("EdDSA"));
    let refused = |options: &JwtOptions| Jwt::open(options).unwrap_err();
    let none = JwtKeyFiles { public: None, private: None };
    let missing = |method| JwtOptions { method, files: none.clone(), ttl: TTL };
    for method in [rs256, es256, eddsa, named("HS256")] {
        assert_eq!(refused(&missing(method)), "auth: missing key data");
        let empty = refused(&Files::new().private(method, ""));
        assert_eq!(empty, "auth: missing key data");
    }
    let only_public = refused(&Files::new().public(named("HS256"), "secret"));
    assert_eq!(only_public, "auth: missing key data");
    for method in [rs256, es256, eddsa] {
        let files = Files::new();
        let mut options = files.private(method, &new_keys(method, false).0);
        options.files.public = Some(files.write("public", &new_keys(method, true).1));
        assert_eq!(refused(&options), "auth: public and private keys don't match");
        let no_pem = refused(&files.private(method, "x"));
        assert!(no_pem.ends_with("Key must be a PEM encoded PKCS1 or PKCS8 key"), "{no_pem}");
    }
    let (ec, rsa) = (new_keys(es256, false), new_keys(rs256, false));
    for (method, is_private, key, error) in [
        (rs256, true, &ec.0, "key is not a valid RSA private key for RS256"),
        (es256, true, &rsa.0, "key is not a valid ECDSA private key for ES256"),
        (named("ES384"), true, &ec.0, "key is not a valid ECDSA private key for ES384"),
        (eddsa, true, &ec.0, "key is not a valid Ed25519 private key for EdDSA"),
        (rs256, false, &ec.1, "key is not a valid RSA public key for RS256"),
        (named("ES512"), false, &ec.1, "key is not a valid ECDSA public key for ES512"),
        (eddsa, false, &rsa.1, "key is not a valid Ed25519 public key for EdDSA"),
    ] {
        let files = Files::new();
        let of = if is_private { Files::private } else { Files::public };
        let why = refused(&of(&files, method, key));
        assert!(why.ends_with(error), "{why}");
    }
    let files = JwtKeyFiles { public: None, private: Some("/no/such/file".into()) };
    let unreadable = JwtOptions { method: rs256, files, ttl: TTL };
    assert_eq!(refused(&unreadable), "auth: invalid auth options");
}

fn looking(options: &JwtOptions) -> Jwt {
    Jwt::looking(options, Duration::ZERO).unwrap()
}

/// Replaces a file, as a careful operator does: in one step.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

#[test]
fn changed_keys_are_used_and_broken_ones_are_not() {
    let method = named("ES256");
    let (old, new) = (new_keys(method, false), new_keys(method, true));
    let files = Files::new();
    let options = files.private(method, &old.0);
    let path = options.files.private.clone().unwrap();
    let jwt = looking(&options);
    let before = jwt.sign(&alice(), at(0)).unwrap();
    let failed = failed_reloads();
    replace(&path, "broken");
    assert_eq!(jwt.verify(&before, at(0)), Ok(alice()), "the old key stays in use");
    assert_eq!(failed_reloads(), failed + 1);
    replace(&path, &new.0);
    assert_eq!(jwt.verify(&before, at(0)), Err(InvalidJwt::Signature));
    let after = jwt.sign(&alice(), at(0)).unwrap();
    assert_eq!(jwt.verify(&after, at(0)), Ok(alice()));
    let verifier = looking(&files.public(method, &new.1));
    assert_eq!(verifier.verify(&after, at(0)), Ok(alice()));
}

#[test]
fn several_public_keys_verify_the_tokens_of_a_rotation() {
    let method = named("EdDSA");
    let (old, new) = (new_keys(method, false), new_keys(method, true));
    let files = Files::new();
    let signer = |private: &str| Jwt::open(&Files::new().private(method, private)).unwrap();
    let tokens = [&old.0, &new.0].map(|key| signer(key).sign(&alice(), at(0)).unwrap());
    let mut options = files.private(method, &new.0);
    options.files.public = Some(files.write("public", &format!("{}{}", new.1, old.1)));
    let jwt = Jwt::open(&options).unwrap();
    for token in &tokens {
        assert_eq!(jwt.verify(token, at(0)), Ok(alice()));
    }
    files.write("public", &old.1);
    let none = Jwt::open(&options).unwrap_err();
    assert_eq!(none, "auth: public and private keys don't match");
}

#[test]
fn remembered_tokens_have_a_limit_and_hold_no_token() {
    let jwt = Jwt::open(&Files::new().private(named("HS256"), "secret")).unwrap();
    for revision in 0..=REMEMBERED_MAX as u64 {
        let claims = JwtClaims { auth_revision: revision, ..alice() };
        let token = jwt.sign(&claims, at(0)).unwrap();
        assert_eq!(jwt.verify(&token, at(0)), Ok(claims));
    }
    assert_eq!(lock(&jwt.keys().verified).len(), 1);
    assert_eq!(format!("{jwt:?}"), "Jwt { method: HS256, .. }");
}

/// A file of `testdata/jwt`.
fn testdata(name: &str) -> Option<PathBuf> {
    Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/jwt").join(name))
}

/// The tokens of `tokens.txt`: Go's etcd 3.5.30 has signed them, and openssl that with EdDSA, which
/// 3.5.30 does not have.
#[test]
fn tokens_of_etcd_are_valid() {
    let tokens = std::fs::read_to_string(testdata("tokens.txt").unwrap()).unwrap();
    let root = JwtClaims { user: "root".to_owned(), auth_revision: 4 };
    for line in tokens.lines() {
        let (name, token) = line.split_once(' ').unwrap();
        let key = match &name[..2] {
            "RS" | "PS" => "rsa".to_owned(),
            "ES" => name.to_lowercase(),
            "Ed" => "ed".to_owned(),
            _ => "hs".to_owned(),
        };
        let public = (key != "hs").then(|| testdata(&format!("{key}.pub")).unwrap());
        let files = JwtKeyFiles { public, private: testdata(&format!("{key}.key")) };
        let jwt = Jwt::open(&JwtOptions { method: named(name), files, ttl: TTL }).unwrap();
        assert_eq!(jwt.verify(token, at(1_795_807_000)), Ok(root.clone()), "{name}");
        assert_eq!(jwt.verify(token, at(1_795_808_000)), Err(InvalidJwt::Expired), "{name}");
    }
    assert_eq!(tokens.lines().count(), METHODS.len());
}

#[test]
fn keys_are_read_in_the_formats_of_openssl() {
    for (method, private, public) in [
        ("RS256", "rsa-pkcs1.key", "rsa-pkcs1.pub"),
        ("RS256", "rsa.key", "rsa-pkcs1.pub"),
        ("ES256", "es256-sec1.key", "es256.pub"),
        ("ES256", "es256.key", "es256-cert.pub"),
    ] {
        let files = JwtKeyFiles { public: testdata(public), private: testdata(private) };
        let options = JwtOptions { method: named(method), files, ttl: TTL };
        let jwt = Jwt::open(&options).unwrap();
        let token = jwt.sign(&alice(), at(0)).unwrap();
        assert_eq!(jwt.verify(&token, at(0)), Ok(alice()), "{private} {public}");
    }
}
