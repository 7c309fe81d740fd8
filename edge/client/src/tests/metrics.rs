//! The metrics of a server, over HTTP/1.1.

use super::run;
use super::server::Hosts;
use std::sync::Arc;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\nabc 1.5\n";

#[test]
fn metrics_are_read_with_a_request_of_their_own() {
    run(async {
        let hosts = Arc::new(Hosts::default());
        let mut listener = hosts.listen("a:1");
        let client = hosts.client(&["a:1", "b:1"]).await;
        let server = async {
            let mut pipe = listener.accept().await;
            let request = pipe.hear_until(b"\r\n\r\n").await;
            pipe.say(ANSWER).await;
            request
        };
        let (text, request) = tokio::join!(client.metrics(), server);
        assert_eq!(text.unwrap(), "abc 1.5\n");
        let request = String::from_utf8(request).unwrap().to_lowercase();
        assert!(request.starts_with("get /metrics http/1.1\r\n"), "{request}");
        assert!(request.contains("host: a:1\r\n"), "{request}");
    });
}

#[test]
fn metrics_that_cannot_be_had_are_errors() {
    run(async {
        let hosts = Arc::new(Hosts::default());
        hosts.refuse("refuses:1");
        let refused = hosts.client(&["refuses:1"]).await.metrics().await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "Get \"http://refuses:1/metrics\": dial tcp refuses:1: connect: connection refused"
        );

        let mut listener = hosts.listen("a:1");
        let client = hosts.client(&["a:1"]).await;
        for (answer, why) in [
            (&b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"[..], "404"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", ""),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n\xff", "utf-8"),
            (b"nonsense\r\n\r\n", ""),
        ] {
            let server = async {
                let mut pipe = listener.accept().await;
                pipe.hear_until(b"\r\n\r\n").await;
                pipe.say(answer).await;
            };
            let (text, ()) = tokio::join!(client.metrics(), server);
            let error = text.unwrap_err().to_string();
            assert!(error.starts_with("Get \"http://a:1/metrics\": "), "{error}");
            assert!(error.contains(why), "{error}");
        }

        // A server that never responds.
        let asked = client.with_timeout(std::time::Duration::from_millis(50));
        let (text, _pipe) = tokio::join!(asked.metrics(), listener.accept());
        assert_eq!(
            text.unwrap_err().to_string(),
            "Get \"http://a:1/metrics\": context deadline exceeded"
        );
    });
}
