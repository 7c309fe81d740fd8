//! A server that cannot start says why in the last line of its log, ends with 1, and leaves the
//! data directory as it is. One that only lacks the other members waits for them.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The number of the signal that asks a process to end.
const SIGTERM: i32 = 15;

/// A server's command line on these ports.
fn etcd(data: &Path, ports: [u16; 2]) -> Command {
    let [client, peer] = ports.map(|port| format!("http://127.0.0.1:{port}"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcd"));
    command
        .arg("--data-dir")
        .arg(data)
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}")])
        .stderr(Stdio::piped());
    command
}

fn free_ports() -> [u16; 2] {
    [(); 2].map(|()| ports::free().unwrap())
}

/// Starts a server on a new directory and stops it once it serves.
fn serve_once(data: &Path) {
    let mut child = etcd(data, free_ports()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let serves = lines.any(|line| line.unwrap().contains("notified init daemon"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(serves, "the server has ended");
}

/// Runs a server that must exit by itself; returns the last line of its log.
fn last_line(data: &Path, ports: [u16; 2]) -> String {
    let mut child = etcd(data, ports).spawn().unwrap();
    let mut log = String::new();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap() > 0 {
        if line.contains("serving peer traffic") || line.contains("ready to serve") {
            child.kill().unwrap();
            lines.read_to_string(&mut log).unwrap();
            panic!("the server serves");
        }
        log = std::mem::take(&mut line);
    }
    assert_eq!(child.wait().unwrap().code(), Some(1), "{log}");
    log
}

fn contains_all(line: &str, words: &[&str]) {
    for word in words {
        assert!(line.contains(word), "no {word} in {line}");
    }
}

/// The files of a directory and their contents.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(content(&path));
        } else {
            files.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    files
}

/// Overwrites some bytes of a file.
fn damage(file: &Path, at: usize, len: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[at..at + len].fill(0x55);
    std::fs::write(file, bytes).unwrap();
}

/// Starts a server with further arguments, and returns its log up to the line that it serves.
fn log_until_served(mut command: Command) -> String {
    let mut child = command.spawn().unwrap();
    let (mut log, mut serves) = (String::new(), false);
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        log.push_str(&line);
        log.push('\n');
        serves = line.contains("ready to serve client requests");
        if serves {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(serves, "the server has ended: {log}");
    log
}

#[test]
fn the_old_flags_of_kubeadms_manifest_start_the_server_with_a_warning() {
    let data = tempfile::tempdir().unwrap();
    // The check compares existing data.
    serve_once(data.path());
    let mut command = etcd(data.path(), free_ports());
    command.args([
        "--experimental-initial-corrupt-check=true",
        "--experimental-watch-progress-notify-interval=5s",
    ]);
    let log = log_until_served(command);
    contains_all(
        &log,
        &[
            "starting initial corruption check",
            "--experimental-initial-corrupt-check is deprecated",
            "--experimental-watch-progress-notify-interval is deprecated in v3.6",
        ],
    );
}

#[test]
fn a_cost_that_bcrypt_does_not_permit_is_replaced_with_a_warning() {
    let data = tempfile::tempdir().unwrap();
    let mut command = etcd(data.path(), free_ports());
    command.args(["--bcrypt-cost", "32"]);
    let log = log_until_served(command);
    let fields = "\"min-cost\":4,\"max-cost\":31,\"default-cost\":10,\"given-cost\":32";
    contains_all(&log, &["use default bcrypt cost instead of the invalid given cost", fields]);
    let log = log_until_served(etcd(data.path(), free_ports()));
    assert!(!log.contains("bcrypt cost"), "{log}");
}

/// `sample.yml` has the keys and values of the file that etcd's releases contain as an example, with
/// other ports. The server starts in the directory of its data, which the file does not name.
#[test]
fn etcds_sample_configuration_starts_the_server_and_what_has_no_effect_is_said() {
    let data = tempfile::tempdir().unwrap();
    let [client, peer] = free_ports().map(|port| format!("http://localhost:{port}"));
    let text = include_str!("sample.yml").replace("CLIENT", &client).replace("PEER", &peer);
    // With the default name, etcd's default cluster has the default port.
    let text = text.replace("initial-cluster:\n", &format!("initial-cluster: default={peer}\n"));
    let file = data.path().join("etcd.yml");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcd"));
    command.arg("--config-file").arg(&file).current_dir(data.path()).stderr(Stdio::piped());
    let log = log_until_served(command);
    let unsaid = ["proxy-dial-timeout", "discovery-fallback"].into_iter().find(|key| {
        let warns = |line: &&str| line.contains("\"level\":\"warn\"") && line.contains(key);
        log.lines().find(warns).is_none()
    });
    assert_eq!(unsaid, None, "{log}");
    contains_all(&log, &["\"msg\":\"pprof is enabled\"", "\"path\":\"/debug/pprof\""]);
}

/// The flag's own value is 1 MiB or more, and a new database has less.
#[test]
fn the_decision_against_a_defragmentation_at_the_start_is_logged_with_its_numbers() {
    let data = tempfile::tempdir().unwrap();
    let mut command = etcd(data.path(), free_ports());
    command.args(["--bootstrap-defrag-threshold-megabytes", "1"]);
    let log = log_until_served(command);
    let line = log.lines().find(|line| line.contains("Skipping defragmentation")).unwrap();
    contains_all(
        line,
        &[
            "\"level\":\"info\"",
            "\"current-db-size-bytes\":",
            "\"current-db-size\":\"",
            "\"current-db-size-in-use-bytes\":",
            "\"current-db-size-in-use\":\"",
            "\"bootstrap-defrag-threshold-bytes\":1048576",
            "\"bootstrap-defrag-threshold\":\"1.0 MB\"",
        ],
    );
    let log = log_until_served(etcd(data.path(), free_ports()));
    assert!(!log.contains("Skipping defragmentation"), "{log}");
}

#[test]
fn unsynced_files_are_warned_of_and_the_data_is_there_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let mut command = etcd(data.path(), free_ports());
    command.arg("--unsafe-no-fsync");
    let log = log_until_served(command);
    let warning = log.lines().find(|line| line.contains("--unsafe-no-fsync is set")).unwrap();
    contains_all(warning, &["\"level\":\"warn\"", "files are not synced"]);
    let log = log_until_served(etcd(data.path(), free_ports()));
    contains_all(&log, &["restarting local member"]);
    assert!(!log.contains("--unsafe-no-fsync is set"), "{log}");
}

/// The server's command line in a shell that limits locked memory to 64 KiB. The right to lock more
/// is dropped, if the test has it.
fn with_little_locked_memory(server: &Command) -> Command {
    use std::os::unix::fs::MetadataExt as _;
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let mut command = if is_root {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-ipc_lock", "--inh-caps", "-ipc_lock", "sh"]);
        command
    } else {
        Command::new("sh")
    };
    command.args(["-c", "ulimit -l 64; exec \"$0\" \"$@\""]).arg(server.get_program());
    command.args(server.get_args()).stderr(Stdio::piped());
    command
}

#[test]
fn memory_that_cannot_be_locked_ends_the_start_with_the_reason() {
    let data = tempfile::tempdir().unwrap();
    let mut server = etcd(data.path(), free_ports());
    server.arg("--memory-mlock");
    let output = with_little_locked_memory(&server).output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    let line = log.lines().last().unwrap();
    contains_all(line, &["\"level\":\"fatal\"", "cannot lock the memory", "LimitMEMLOCK"]);
    contains_all(line, &["\"error\":\"mlock error: cannot allocate memory\""]);
    assert!(content(data.path()).is_empty(), "the directory is untouched");
}

#[test]
fn locked_memory_is_that_of_the_process_if_the_limit_allows_it() {
    let data = tempfile::tempdir().unwrap();
    let mut server = etcd(data.path(), free_ports());
    server.arg("--memory-mlock");
    let mut child = server.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let is_end = |line: &String| line.contains("ready to serve") || line.contains("mlock error");
    let end = lines.find(is_end).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
    child.kill().unwrap();
    child.wait().unwrap();
    if end.contains("mlock error") {
        eprintln!("skipped: this user may not lock memory");
        return;
    }
    let status = status.unwrap();
    let size = |name: &str| -> u64 {
        let row = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        row.trim().trim_end_matches(" kB").parse().unwrap()
    };
    let (locked, used) = (size("VmLck:"), size("VmRSS:"));
    assert!(locked >= used, "{locked} of {used} kB are locked");
}

/// As in etcd, a directory that others may enter is used, with a warning.
#[test]
fn cve_2020_15113_the_data_directory_is_its_owners_and_others_are_warned_of() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("new");
    serve_once(&data);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for dir in [&data, &data.join("member"), &data.join("member/snap"), &data.join("member/wal")] {
        assert_eq!(mode(dir), 0o700, "{}", dir.display());
    }
    let mut files = content(&data).into_keys();
    assert!(files.all(|file| mode(&file) == 0o600), "every file is its owner's");
    let warning = "check file permission";
    assert!(!log_until_served(etcd(&data, free_ports())).contains(warning));
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
    let log = log_until_served(etcd(&data, free_ports()));
    let words = "exist, but the permission is \\\"drwxr-xr-x\\\". The recommended permission is \
                 \\\"-rwx------\\\" to prevent possible unprivileged access to the data";
    contains_all(&log, &[warning, words]);
}

#[test]
fn a_taken_port_is_named() {
    let data = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let line = last_line(data.path(), [port, free_ports()[1]]);
    let address = format!("127.0.0.1:{port}");
    let error = format!("\"error\":\"listen tcp {address}: bind: address already in use\"");
    contains_all(&line, &["cannot listen on a port", "\"urls\":\"client\"", &error]);
    assert!(content(data.path()).is_empty(), "the directory is untouched");
}

#[test]
fn a_damaged_database_is_named_with_its_page() {
    let data = tempfile::tempdir().unwrap();
    serve_once(data.path());
    let db = data.path().join("member/snap/db");
    damage(&db, 0, 2 * 4096);
    let before = content(data.path());
    let line = last_line(data.path(), free_ports());
    let file = format!("\"file\":\"{}\"", db.display());
    contains_all(&line, &["\"msg\":\"the database is damaged\"", &file, "\"page\":"]);
    assert!(content(data.path()) == before, "the directory is untouched");
}

#[test]
fn a_damaged_log_is_named_with_its_offset() {
    let data = tempfile::tempdir().unwrap();
    serve_once(data.path());
    let wal = data.path().join("member/wal");
    let log = wal.join("0000000000000000-0000000000000000.wal");
    damage(&log, 200, 8);
    let before = content(data.path());
    let line = last_line(data.path(), free_ports());
    let file = format!("\"file\":\"{}\"", log.display());
    contains_all(&line, &["\"msg\":\"the log is damaged\"", &file, "\"offset\":"]);
    assert!(content(data.path()) == before, "the directory is untouched");
}

#[test]
fn a_member_of_a_go_cluster_waits_for_the_others_without_serving_clients_and_ends_on_a_signal() {
    let Some(shared) = std::env::var_os("RETCD_TESTDATA") else {
        eprintln!("skipped: RETCD_TESTDATA is not set");
        return;
    };
    for version in ["3.4.23", "3.5.30", "3.6.14", "3.7.1"] {
        let dir = tempfile::tempdir().unwrap();
        let archive = Path::new(&shared).join(format!("go-data/{version}-cluster.tar.gz"));
        let mut tar = Command::new("tar");
        tar.arg("--sparse").arg("-xzf").arg(archive).arg("-C").arg(dir.path());
        assert!(tar.status().unwrap().success());
        let members = members(dir.path());
        assert!(members.len() >= 2, "{version}: {members:?}");
        for member in members {
            waits_for_others(&member);
        }
    }
}

/// Starts a server on a directory whose other members do not run; ends it after its first attempts to
/// reach them.
fn waits_for_others(data: &Path) {
    let mut child = etcd(data, free_ports()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let (mut line, mut log) = (String::new(), String::new());
    let mut is_told = false;
    while lines.read_line(&mut line).unwrap() > 0 {
        assert!(!line.contains("ready to serve"), "{line}");
        // It has replayed its log, and looks for the others.
        if !is_told && line.contains("started stream reader with remote peer") {
            is_told = true;
            let pid = child.id().to_string();
            assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        }
        log += &line;
        line.clear();
    }
    assert!(is_told, "{log}");
    assert_eq!(child.wait().unwrap().signal(), Some(SIGTERM), "{log}");
    contains_all(&log, &["added remote peer", "closed etcd server"]);
}

/// The data directories below a directory.
fn members(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.join("member").is_dir() {
            found.push(path);
        } else if path.is_dir() {
            found.extend(members(&path));
        }
    }
    found
}
