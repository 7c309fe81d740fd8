//! HTTP/1.1 to other members.

use crate::dial::{Dialer, To};
use crate::limits::TEXT_BYTES_MAX;
use bytes::{Bytes, BytesMut};
use http::{Request, Response, request};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use net::Url;
use std::error::Error;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A connection to a member. It is closed when this is dropped.
#[derive(Debug)]
pub(crate) struct Connection<B> {
    sender: SendRequest<B>,
    driver: JoinHandle<()>,
}

impl<B> Drop for Connection<B> {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl<B> Connection<B>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Connects to a URL. Must be called on a runtime.
    pub(crate) async fn open(dialer: &Dialer, url: &Url) -> Result<Connection<B>, String> {
        let stream = dialer.dial(url).await?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a peer broke");
            }
        });
        Ok(Connection { sender, driver })
    }

    /// Whether another request can be sent.
    pub(crate) fn is_usable(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends a request. Returns the response, whose body is not read yet.
    pub(crate) async fn send(&mut self, request: Request<B>) -> Result<Response<Incoming>, String> {
        self.sender.ready().await.map_err(|error| error.to_string())?;
        self.sender.send_request(request).await.map_err(|error| error.to_string())
    }
}

/// The head of a request for a URL.
pub(crate) fn head(method: &str, url: &Url, path: &str) -> request::Builder {
    Request::builder().method(method).uri(path).header("Host", url.address())
}

/// The body of an answer, of at most `bytes_max` bytes.
pub(crate) async fn read_body(mut body: Incoming, bytes_max: usize) -> Result<Bytes, String> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| error.to_string())?.into_data() else { continue };
        if read.len() + data.len() > bytes_max {
            return Err(format!("the answer has more than {bytes_max} bytes"));
        }
        read.extend_from_slice(&data);
    }
    Ok(read.freeze())
}

/// The text of an error.
pub(crate) async fn read_text(body: Incoming) -> String {
    match read_body(body, TEXT_BYTES_MAX).await {
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim_end().to_owned(),
        Err(error) => error,
    }
}

/// Sends one request on a connection of its own, and reads the response. `time` limits all of it.
pub(crate) async fn exchange(
    (dialer, url): To<'_>,
    request: Request<Full<Bytes>>,
    bytes_max: usize,
    time: Duration,
) -> Result<Response<Bytes>, String> {
    let all = async {
        let mut connection = Connection::open(dialer, url).await?;
        let (head, body) = connection.send(request).await?.into_parts();
        Ok(Response::from_parts(head, read_body(body, bytes_max).await?))
    };
    timeout(time, all).await.map_err(|_| "context deadline exceeded".to_owned())?
}
