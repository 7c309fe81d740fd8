//! TLS of `etcd grpc-proxy`: towards the servers and towards clients.

use super::*;

/// A certificate without a common name, in files of this name.
fn nameless(authority: &Authority, name: &str) -> KeyPair {
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let key = Key::generate().unwrap();
    let cert = params.signed_by(&key, &authority.issuer).unwrap();
    let file = |end: &str| authority.folder.join(format!("{name}{end}"));
    let pair = KeyPair { cert: file(".pem"), key: file("-key.pem") };
    std::fs::write(&pair.cert, cert.pem()).unwrap();
    std::fs::write(&pair.key, key.serialize_pem()).unwrap();
    pair
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

/// Starts a proxy; its address, once it serves, or its log.
fn proxy(arguments: &[String]) -> Result<(Server, String), String> {
    let address = free();
    let mut child = Command::new(env!("CARGO_BIN_EXE_etcd"))
        .args(["grpc-proxy", "start", "--listen-addr", &address])
        .args(["--advertise-client-url", &address])
        .args(arguments)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut log = String::new();
    let serves = lines.any(|line| {
        log.push_str(&line.unwrap());
        log.push('\n');
        log.contains("notified init daemon")
    });
    let server = Server { child, lines: None };
    std::thread::spawn(move || lines.for_each(drop));
    if serves { Ok((server, address)) } else { Err(log) }
}

#[test]
fn a_proxy_has_certificates_of_its_own_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let address = free();
    let mut flags = authority.flags("");
    flags.extend(client_urls(&format!("https://{address}")));
    let peer = format!("http://{}", free());
    flags.extend(peer_urls("a", &peer, &format!("a={peer}")));
    let server = Server::start(&folder.path().join("data"), &flags).ready();

    let (own, named) = (nameless(&authority, "proxy"), authority.issue("named"));
    let towards_servers = |pair: &KeyPair| {
        let (cert, key) = (flag("cert", &pair.cert), flag("key", &pair.key));
        vec![cert, key, flag("cacert", &authority.ca()), format!("--endpoints={address}")]
    };
    // The server would take the name for the user of all clients.
    let log = proxy(&towards_servers(&named)).map(|_| ()).unwrap_err();
    let why = format!("cert has non empty Common Name (named): {}", named.cert.display());
    assert!(log.ends_with(&format!("{why}\n")), "{log}");

    let mut flags = towards_servers(&own);
    flags.extend([flag("cert-file", &named.cert), flag("key-file", &named.key)]);
    flags.push(flag("trusted-ca-file", &authority.ca()));
    flags.push("--tls-min-version=TLS1.3".to_owned());
    let (serving, through) = proxy(&flags).unwrap();
    run(async {
        let client = connect(&through, Some(authority.client())).await;
        put(&client, "through").await.unwrap();
        let direct = connect(&address, Some(authority.client())).await;
        assert_eq!(value(&direct).await.as_deref(), Some("through"));
        // A client needs a certificate, since there are authorities for it.
        let trusted_ca = Some(authority.ca());
        let without = TlsOptions { trusted_ca, ..TlsOptions::default() };
        let client = connect(&through, Some(without)).await.with_timeout(Duration::from_secs(1));
        put(&client, "nobody").await.unwrap_err();
    });
    drop((serving, server));
}

#[test]
fn a_proxy_makes_its_own_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let address = free();
    let peer = format!("http://{}", free());
    let mut flags = client_urls(&format!("http://{address}")).to_vec();
    flags.extend(peer_urls("a", &peer, &format!("a={peer}")));
    let server = Server::start(&folder.path().join("data"), &flags).ready();
    let data = folder.path().join("proxy");
    let flags =
        ["--auto-tls".to_owned(), flag("data-dir", &data), format!("--endpoints={address}")];
    let (serving, through) = proxy(&flags).unwrap();
    assert!(data.join("fixtures/proxy/cert.pem").exists());
    run(async {
        let tls = TlsOptions { skips_verification: true, ..TlsOptions::default() };
        let client = connect(&through, Some(tls)).await;
        put(&client, "through").await.unwrap();
        assert_eq!(value(&client).await.as_deref(), Some("through"));
    });
    drop((serving, server));
}
