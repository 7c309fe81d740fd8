//! Connections through a gateway on loopback.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use gateway::{Gateway, Options, Remote};
use net::{Listener, SocketOptions, Url};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// A gateway to these endpoints that tries failed ones again after a millisecond, and its address.
fn gateway(endpoints: &[SocketAddr], connections_max: usize) -> (Gateway, SocketAddr) {
    let url = Url::parse("http://127.0.0.1:0").unwrap();
    let listener = Listener::bind(&url, SocketOptions::default()).unwrap();
    let address = listener.local_addr().unwrap();
    let remote =
        |endpoint: &SocketAddr| Remote { address: endpoint.to_string(), priority: 0, weight: 0 };
    let remotes = endpoints.iter().map(remote).collect();
    let retry_delay = Duration::from_millis(1);
    let options = Options { remotes, retry_delay, connections_max };
    (Gateway::start(listener, options).unwrap(), address)
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Answers each connection with a name and closes it.
fn serve_name(listener: TcpListener, name: &'static str) {
    thread::spawn(move || {
        for connection in listener.incoming() {
            if connection.unwrap().write_all(name.as_bytes()).is_err() {
                // The gateway only tried whether there is a server.
            }
        }
    });
}

/// All that comes from a connection, until it ends.
fn answer(address: SocketAddr) -> String {
    let mut text = String::new();
    match TcpStream::connect(address).unwrap().read_to_string(&mut text) {
        Ok(_) => text,
        Err(error) => error.to_string(),
    }
}

#[test]
fn connections_go_to_the_endpoints_in_turn() {
    let ((one, first), (other, second)) = (listener(), listener());
    serve_name(one, "one");
    serve_name(other, "other");
    let (_gateway, address) = gateway(&[first, second], 8);
    let answers: Vec<String> = (0..4).map(|_| answer(address)).collect();
    assert_eq!(answers, ["one", "other", "one", "other"]);
}

#[test]
fn a_dead_endpoint_is_skipped_and_comes_back() {
    let ((one, first), (gone, second)) = (listener(), listener());
    serve_name(one, "one");
    drop(gone);
    let (_gateway, address) = gateway(&[first, second], 8);
    let answers: Vec<String> = (0..4).map(|_| answer(address)).collect();
    assert_eq!(answers, ["one"; 4]);
    serve_name(TcpListener::bind(second).unwrap(), "back");
    // Until the test's own time limit.
    while answer(address) != "back" {
        thread::yield_now();
    }
}

#[test]
fn without_a_live_endpoint_connections_are_closed() {
    let (gone, address) = listener();
    drop(gone);
    let (_gateway, address) = gateway(&[address], 8);
    assert_eq!(answer(address), "");
}

#[test]
fn half_closed_connections_are_forwarded() {
    let (server, endpoint) = listener();
    let echo = thread::spawn(move || {
        let (mut connection, _) = server.accept().unwrap();
        let mut question = String::new();
        // Ends only when the client has closed its half.
        connection.read_to_string(&mut question).unwrap();
        connection.write_all(question.to_uppercase().as_bytes()).unwrap();
    });
    let (_gateway, address) = gateway(&[endpoint], 8);
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "QUESTION");
    echo.join().unwrap();
}

#[test]
fn large_amounts_are_forwarded_in_both_directions() {
    let (server, endpoint) = listener();
    thread::spawn(move || {
        let (mut connection, _) = server.accept().unwrap();
        let mut back = connection.try_clone().unwrap();
        std::io::copy(&mut connection, &mut back).unwrap();
        back.shutdown(Shutdown::Write).unwrap();
    });
    let (_gateway, address) = gateway(&[endpoint], 8);
    let sent: Vec<u8> = (0..4_000_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    let mut client = TcpStream::connect(address).unwrap();
    let mut writer = client.try_clone().unwrap();
    let bytes = sent.clone();
    let writing = thread::spawn(move || {
        writer.write_all(&bytes).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    writing.join().unwrap();
    assert!(received == sent);
}

#[test]
fn connections_over_the_bound_wait_for_a_place() {
    let (server, endpoint) = listener();
    let (to, served) = mpsc::channel();
    thread::spawn(move || {
        for connection in server.incoming() {
            to.send(connection.unwrap()).unwrap();
        }
    });
    let (_gateway, address) = gateway(&[endpoint], 1);
    let first = TcpStream::connect(address).unwrap();
    let mut of_first = served.recv().unwrap();
    let second = TcpStream::connect(address).unwrap();
    // The gateway is at work, and does not serve the second connection.
    for _ in 0..100 {
        of_first.write_all(b"x").unwrap();
        (&first).read_exact(&mut [0]).unwrap();
    }
    assert!(served.try_recv().is_err());
    drop((first, of_first));
    served.recv().unwrap().write_all(b"y").unwrap();
    (&second).read_exact(&mut [0]).unwrap();
}

#[test]
fn an_endpoint_that_is_the_gateway_itself_is_not_used() {
    let url = Url::parse("http://127.0.0.1:0").unwrap();
    let listener = Listener::bind(&url, SocketOptions::default()).unwrap();
    let address = listener.local_addr().unwrap();
    let remote = Remote { address: address.to_string(), priority: 0, weight: 0 };
    let options =
        Options { remotes: vec![remote], retry_delay: Duration::from_secs(60), connections_max: 8 };
    let _gateway = Gateway::start(listener, options).unwrap();
    assert_eq!(answer(address), "");
}

#[test]
fn a_dropped_gateway_closes_its_port_and_connections_even_if_one_waits_for_a_place() {
    let (server, endpoint) = listener();
    let (gateway, address) = gateway(&[endpoint], 1);
    let mut first = TcpStream::connect(address).unwrap();
    let (_of_first, _) = server.accept().unwrap();
    let _second = TcpStream::connect(address).unwrap();
    drop(gateway);
    assert!(TcpStream::connect(address).is_err());
    assert!(matches!(first.read(&mut [0]), Ok(0) | Err(_)));
}
