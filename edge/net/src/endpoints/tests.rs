//! The endpoints' answers, compared by hand with those of etcd 3.7.1.

use super::*;
use std::cell::RefCell;

#[derive(Default)]
struct Fake {
    alarms: Vec<Alarm>,
    no_leader: bool,
    learner: bool,
    fails: bool,
    recorded: RefCell<Vec<String>>,
}

impl StatusSource for Fake {
    fn alarms(&self) -> Vec<Alarm> {
        self.alarms.clone()
    }
    fn has_leader(&self) -> bool {
        !self.no_leader
    }
    fn is_learner(&self) -> bool {
        self.learner
    }
    fn cluster_version(&self) -> Option<String> {
        (!self.no_leader).then(|| "3.7.0".to_owned())
    }
    fn announced_version(&self) -> String {
        "3.5.0".to_owned()
    }
    fn storage_version(&self) -> Option<String> {
        self.cluster_version()
    }
    async fn read(&self, linearizable: bool) -> Result<(), String> {
        if self.fails && linearizable { Err("etcdserver: no leader".to_owned()) } else { Ok(()) }
    }
    fn metrics(&self) -> Vec<u8> {
        b"a 1\n".to_vec()
    }
    async fn variables(&self) -> Vec<(&'static str, String)> {
        vec![("cmdline", "[\"etcd\"]".to_owned()), ("raft.status", "null".to_owned())]
    }
    fn count_health(&self, healthy: bool) {
        self.recorded.borrow_mut().push(format!("health {healthy}"));
    }
    fn count_check(&self, kind: &'static str, name: &'static str, passed: bool) {
        self.recorded.borrow_mut().push(format!("{kind} {name} {passed}"));
    }
}

fn get(source: &Fake, target: &str) -> (u16, String) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    match runtime.block_on(client(source, &Method::GET, path, query)) {
        Some(r) => (r.status().as_u16(), String::from_utf8(r.body().to_vec()).unwrap()),
        None => (0, String::new()),
    }
}

#[test]
fn the_variables_are_one_object_with_a_line_for_each_as_in_go() {
    let body = "{\n\"cmdline\": [\"etcd\"],\n\"raft.status\": null\n}\n";
    assert_eq!(get(&Fake::default(), "/debug/vars"), (200, body.to_owned()));
    assert_eq!(get(&Fake::default(), "/debug/vars/"), (0, String::new()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for method in [Method::POST, Method::HEAD] {
        let source = Fake::default();
        let answer = runtime.block_on(client(&source, &method, "/debug/vars", "")).unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["allow"]),
            (405, &"GET".parse().unwrap())
        );
    }
}

#[test]
fn health_says_why_it_is_false() {
    let ok = "{\"health\":\"true\",\"reason\":\"\"}";
    let bad = |reason: &str| (503, format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}\n"));
    assert_eq!(get(&Fake::default(), "/health"), (200, ok.to_owned()));
    let full = Fake { alarms: vec![Alarm::NoSpace], ..Fake::default() };
    assert_eq!(get(&full, "/health"), bad("ALARM NOSPACE"));
    assert_eq!(get(&full, "/health?exclude=NOSPACE"), (200, ok.to_owned()));
    assert_eq!(get(&full, "/health?exclude=CORRUPT&exclude=NO%53PACE"), (200, ok.to_owned()));
    assert_eq!(*full.recorded.borrow(), ["health false", "health true", "health true"]);
    let lost = Fake { no_leader: true, ..Fake::default() };
    assert_eq!(get(&lost, "/health"), bad("RAFT NO LEADER"));
    assert_eq!(get(&lost, "/health?serializable=true"), (200, ok.to_owned()));
    let failing = Fake { fails: true, ..Fake::default() };
    assert_eq!(get(&failing, "/health"), bad("RANGE ERROR:etcdserver: no leader"));
    assert_eq!(get(&failing, "/health?serializable=true"), (200, ok.to_owned()));
}

#[test]
fn checks_list_what_passed_when_asked_or_when_one_failed() {
    let fine = Fake::default();
    assert_eq!(get(&fine, "/livez"), (200, "ok\n".to_owned()));
    assert_eq!(get(&fine, "/livez?verbose").1, "[+]serializable_read ok\nok\n");
    let all = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n\
               [+]non_learner ok\nok\n";
    assert_eq!(get(&fine, "/readyz?verbose").1, all);
    let failing = Fake { fails: true, learner: true, ..Fake::default() };
    assert_eq!(
        get(&failing, "/readyz?exclude=non_learner"),
        (
            503,
            "[+]data_corruption ok\n[+]serializable_read ok\n\
             [-]linearizable_read failed: range error: etcdserver: no leader\n\n"
                .to_owned()
        )
    );
    assert_eq!(get(&failing, "/readyz/serializable_read"), (200, "ok\n".to_owned()));
    assert_eq!(get(&failing, "/readyz/nope"), (0, String::new()));
    assert_eq!(get(&failing, "/livez/serializable_read").0, 200);
    assert_eq!(failing.recorded.borrow()[0], "readyz data_corruption true");
}

#[test]
fn version_tells_what_is_not_decided() {
    let versions = r#"{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}"#;
    assert_eq!(get(&Fake::default(), "/version"), (200, versions.to_owned()));
    let young = Fake { no_leader: true, ..Fake::default() };
    let versions = r#"{"etcdserver":"3.7.1","etcdcluster":"not_decided","storage":"unknown"}"#;
    assert_eq!(get(&young, "/version").1, versions);
}

#[test]
fn other_methods_are_not_allowed() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for path in ["/health", "/livez", "/readyz", "/version"] {
        let fine = Fake::default();
        let answer = runtime.block_on(client(&fine, &Method::POST, path, "")).unwrap();
        assert_eq!(answer.status(), 405, "{path}");
        assert_eq!(answer.headers()["allow"], "GET");
        assert_eq!(answer.body(), "Method Not Allowed\n");
    }
}

#[test]
fn peers_see_versions_and_members_only() {
    let source = Fake::default();
    let members = || "[]".to_owned();
    let version = peer(&source, &Method::GET, "/version", members);
    let body = "{\"etcdserver\":\"3.5.0\",\"etcdcluster\":\"3.7.0\",\"storage\":\"3.7.0\"}";
    assert_eq!((version.status().as_u16(), &version.body()[..]), (200, body.as_bytes()));
    let own = body.replace("server\":\"3.5.0", "server\":\"3.7.1");
    assert_eq!(get(&source, "/version"), (200, own), "clients see the real one");
    assert_eq!(peer(&source, &Method::GET, "/members", members).body(), "[]\n");
    assert_eq!(peer(&source, &Method::POST, "/members", members).status(), 405);
    let answer = peer(&source, &Method::GET, "/health", members);
    assert_eq!((answer.status().as_u16(), &answer.body()[..]), (404, &b"404 page not found\n"[..]));
}
