//! The limits of connections, in one place. Every state of a connection has a time limit:
//!
//! | state | clients' port | peers' and metrics ports |
//! |---|---|---|
//! | accepted and silent, part of an HTTP/2 preface, a preface without SETTINGS | [`OPENING_TIME_MAX`] | [`OPENING_TIME_MAX`]; HTTP/2 is refused |
//! | a TLS handshake | [`HANDSHAKE_TIME_MAX`] | [`HANDSHAKE_TIME_MAX`] |
//! | head of an HTTP/1 request unfinished, idle keep-alive of HTTP/1 | [`HEAD_TIME_MAX`] | [`HEAD_TIME_MAX`] |
//! | body of an HTTP/1 request unfinished | closed after the answer | [`BODY_CHUNK_TIME_MAX`] where it is read, and [`BODY_TIME_MAX`] where it is read whole; else closed after the answer |
//! | message of a gRPC call unfinished | [`REQUEST_TIME_MAX`], or the deadline of the call | |
//! | an open WebSocket | none, but for bytes that the client does not take | |
//! | answer under way | the request's own limit | the request's own limit |
//! | bytes that the client does not take from its socket | [`STALLED_TIME_MAX`] | [`STALLED_TIME_MAX`] |
//! | idle HTTP/2, half an HTTP/2 frame, GOAWAY from the client | pings: `--grpc-keepalive-interval` and `--grpc-keepalive-timeout` | |
//! | GOAWAY from the server | the grace period of the shutdown | |
//!
//! The number of connections is limited, too. When a port has none left for a new connection, the
//! connection that has been idle longest is closed: see [`crate::Seats`].
//!
//! Source: etcd client/pkg/transport and server/embed/serve.go @ v3.7.1 (`ReadHeaderTimeout`),
//! grpc-go server.go @ v1.82 (`connectionTimeout`).

use std::time::Duration;

/// The time for the first bytes of a connection: the HTTP/2 preface with the head of the SETTINGS
/// frame, or at least one byte that cannot belong to them. That of grpc-go.
pub const OPENING_TIME_MAX: Duration = Duration::from_secs(120);

/// The time for a TLS handshake. That of etcd.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// The time for the head of an HTTP/1 request, from the opening of the connection or from the
/// answer before. That of etcd.
pub const HEAD_TIME_MAX: Duration = Duration::from_secs(5 * 60);

/// The time in which a client must take at least one byte of what is sent to it.
pub const STALLED_TIME_MAX: Duration = Duration::from_secs(5 * 60);

/// The time in which a peer must send at least one byte of a body that is read. That of etcd's
/// listener for peers.
pub const BODY_CHUNK_TIME_MAX: Duration = Duration::from_secs(5);

/// The time for the request of a call, or for the rest of a message of a stream of requests, on the
/// clients' port.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(5 * 60);

/// The time for a body that is read whole before the answer.
pub const BODY_TIME_MAX: Duration = Duration::from_secs(60);

/// Connections that the peers' port and the metrics port serve at a time, each.
pub const PLAIN_SERVED_MAX: usize = 256;

/// Connections of the peers' port or the metrics port that wait for their place. Further ones are
/// closed when they are accepted.
pub const PLAIN_WAITING_MAX: usize = 64;

/// The places for connections within a limit of file descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacesOfPorts {
    /// Of the clients' port.
    pub clients: usize,
    /// Of the peers' port and of the metrics port, each.
    pub plain: usize,
}

impl PlacesOfPorts {
    /// Divides the file descriptors that are left for connections among the ports.
    #[must_use]
    pub fn within(fds: usize) -> PlacesOfPorts {
        let plain = (fds / 4).clamp(1, PLAIN_SERVED_MAX);
        PlacesOfPorts { clients: fds.saturating_sub(2 * plain).max(1), plain }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_places_of_all_ports_fit_the_file_descriptors() {
        for fds in [4, 100, 1000, 100_000] {
            let places = PlacesOfPorts::within(fds);
            assert!(places.clients + 2 * places.plain <= fds, "{fds}: {places:?}");
            assert!(places.clients >= fds / 2, "{fds}: {places:?}");
        }
        assert_eq!(PlacesOfPorts::within(100_000).plain, PLAIN_SERVED_MAX);
    }
}
