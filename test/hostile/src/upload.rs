//! Connections that keep many large puts in flight.

use crate::http2::{FRAME_MAX, RawConnection, message};
use anyhow::Result;
use bytes::Bytes;
use proto::etcdserverpb::PutRequest;
use std::net::SocketAddr;

const PUT: &str = "/etcdserverpb.KV/Put";

/// A connection with puts in flight. It reads their responses.
#[derive(Debug)]
pub(crate) struct Uploader {
    connection: RawConnection,
    under_way: Vec<u32>,
    /// The put that is partly sent: its stream, its message, and the number of sent bytes.
    unsent: Option<(u32, Vec<u8>, usize)>,
}

impl Uploader {
    pub(crate) fn open(address: SocketAddr) -> Result<Uploader> {
        let mut connection = RawConnection::open(address, &[])?;
        connection.gives_back();
        Ok(Uploader { connection, under_way: Vec::new(), unsent: None })
    }

    /// Reads responses, and sends puts until `puts` are in flight or the windows are full. Returns
    /// how many were answered.
    pub(crate) fn turn(&mut self, puts: usize, mut next: impl FnMut() -> (String, Bytes)) -> u64 {
        let connection = &mut self.connection;
        connection.pump();
        let before = self.under_way.len();
        self.under_way.retain(|stream| !connection.stream(*stream).ended);
        let answered = (before - self.under_way.len()) as u64;
        connection.forget_ended();
        while !connection.is_closed() {
            let (stream, bytes, sent) = match self.unsent.take() {
                // The put was answered before it was sent completely, so the rest is not sent.
                Some((stream, ..)) if !self.under_way.contains(&stream) => continue,
                Some(unsent) => unsent,
                None if self.under_way.len() >= puts => break,
                None => {
                    let (key, value) = next();
                    let stream = connection.call(PUT, &[]);
                    self.under_way.push(stream);
                    let put = PutRequest { key: key.into(), value, ..PutRequest::default() };
                    (stream, message(&put), 0)
                }
            };
            let end = (sent + FRAME_MAX).min(bytes.len());
            if !connection.data(stream, &bytes[sent..end], end == bytes.len()) {
                self.unsent = Some((stream, bytes, sent));
                break;
            }
            if end < bytes.len() {
                self.unsent = Some((stream, bytes, end));
            }
        }
        answered
    }
}
