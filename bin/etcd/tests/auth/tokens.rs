//! JSON Web Tokens of a running server.

use super::{ROOT_PASSWORD, Server, USER_PASSWORD, post, run, said};
use client::{Client, Config, Error};
use proto::etcdserverpb as pb;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// A new private key of ES256 in a folder.
fn new_key(folder: &Path) -> PathBuf {
    let key = rcgen::KeyPair::generate().unwrap();
    let new = folder.join("new");
    std::fs::write(&new, key.serialize_pem()).unwrap();
    let path = folder.join("jwt.key");
    std::fs::rename(new, &path).unwrap();
    path
}

fn flag(key: &Path) -> String {
    format!("--auth-token=jwt,sign-method=ES256,priv-key={},ttl=1h", key.display())
}

async fn with_token(server: &Server, token: &str) -> Result<Client, Error> {
    let mut config = Config::new(vec![server.endpoint.clone()]);
    config.token = Some(token.to_owned());
    Client::connect(config).await
}

async fn put(client: &Client) -> String {
    said(client.put(pb::PutRequest { key: "a".into(), ..Default::default() }).await)
}

#[test]
fn a_signed_token_is_valid_until_users_or_roles_change() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(&[flag(&new_key(folder.path()))]);
    run(async {
        server.enable().await;
        let token = server.token_of("alice", USER_PASSWORD);
        assert_eq!(token.split('.').count(), 3, "{token}");
        let alice = with_token(&server, &token).await.unwrap();
        assert_eq!(put(&alice).await, "ok");
        let tampered = format!("{}x", &token[..token.len() - 1]);
        let tampered = with_token(&server, &tampered).await.unwrap();
        assert_eq!(put(&tampered).await, "etcdserver: invalid auth token");
        let by_password = server.client(Some(("alice", USER_PASSWORD))).await.unwrap();
        assert_eq!(put(&by_password).await, "ok");
        let root = server.client_of_root().await;
        root.role_add(pb::AuthRoleAddRequest { name: "x".into() }).await.unwrap();
        assert_eq!(put(&alice).await, "etcdserver: revision of auth store is old");
        assert_eq!(put(&by_password).await, "ok", "it gets another token by itself");
    });
}

#[test]
fn clients_get_new_tokens_when_the_key_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(&[flag(&new_key(folder.path()))]);
    run(async {
        server.enable().await;
        let alice = server.client(Some(("alice", USER_PASSWORD))).await.unwrap();
        let old = server.token_of("alice", USER_PASSWORD);
        let old = with_token(&server, &old).await.unwrap();
        assert_eq!((put(&alice).await, put(&old).await), ("ok".to_owned(), "ok".to_owned()));
        new_key(folder.path());
        // The server looks at the files once a second.
        while put(&old).await == "ok" {
            tokio::task::yield_now().await;
        }
        assert_eq!(put(&old).await, "etcdserver: invalid auth token");
        assert_eq!(put(&alice).await, "ok");
    });
}

#[test]
fn issue_21993_no_token_is_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start_with(&[flag(&new_key(folder.path()))]);
    let mut tokens = Vec::new();
    run(async {
        server.enable().await;
        let good = server.token_of("root", ROOT_PASSWORD);
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let bad = format!("{signed}.{}", signature.chars().rev().collect::<String>());
        for token in [&good, &bad] {
            let header = format!("authorization: Bearer {token}\r\n");
            post(&server.endpoint, "/v3/kv/put", &header, r#"{"key":"YQ=="}"#);
        }
        tokens.extend([good.clone(), bad, signature.to_owned(), signed.to_owned()]);
    });
    server.child.kill().unwrap();
    let mut log = String::new();
    server.log.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(log.contains("created/assigned a new JWT token"));
    assert!(log.contains("failed to parse a JWT token"));
    for token in tokens {
        assert!(!log.contains(&token));
    }
}

#[test]
fn without_a_private_key_a_member_gives_no_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let public = folder.path().join("jwt.pub");
    std::fs::write(&public, key.public_key_pem()).unwrap();
    let flag = format!("--auth-token=jwt,sign-method=ES256,pub-key={}", public.display());
    let server = Server::start_with(&[flag]);
    run(async {
        server.enable().await;
        let root = server.client(Some(("root", ROOT_PASSWORD))).await.map(drop);
        assert_eq!(said(root), "auth: token signing attempted with verify-only key");
        let wrong = server.client(Some(("root", "x"))).await.map(drop);
        assert_eq!(said(wrong), "etcdserver: authentication failed, invalid user ID or password");
    });
}
