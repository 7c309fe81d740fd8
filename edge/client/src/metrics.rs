//! Reads the metrics of a server over HTTP/1.1 from its client port. The endpoint and the client's
//! configuration decide whether TLS is used.

use crate::balance::tls;
use crate::call::Client;
use crate::endpoint::Endpoint;
use crate::transport::{Duplex, step};
use crate::{Config, Error};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use std::sync::Arc;

/// The maximum size of the text in bytes. Servers send about 100 KiB.
const TEXT_BYTES_MAX: usize = 64 << 20;
const PATH: &str = "/metrics";

impl Client {
    /// The metrics of the first endpoint's server, in the Prometheus text format.
    ///
    /// # Errors
    /// [`Error::Http`] when there is no text in time, with the words of Go's HTTP client.
    pub async fn metrics(&self) -> Result<String, Error> {
        let config = &self.balancer.config;
        let tls = tls(config, &["http/1.1"])?.map(Arc::new);
        let endpoint = Endpoint::parse(&config.endpoints[0], tls.as_ref());
        let scheme = if endpoint.tls.is_some() { "https" } else { "http" };
        let failed = |why: String| {
            Error::Http(format!("Get \"{scheme}://{}{PATH}\": {why}", endpoint.authority))
        };
        let fetched = self.fetch(config, &endpoint);
        match self.timeout {
            Some(timeout) => match tokio::time::timeout(timeout, fetched).await {
                Ok(fetched) => fetched.map_err(failed),
                Err(_) => Err(failed("context deadline exceeded".to_string())),
            },
            None => fetched.await.map_err(failed),
        }
    }

    async fn fetch(&self, config: &Config, endpoint: &Endpoint) -> Result<String, String> {
        let opened = self.balancer.network.open(endpoint);
        let opened = tokio::time::timeout(config.dial_timeout, opened).await;
        let late = |_| format!("{}: i/o timeout", step(endpoint));
        let mut stream = opened.map_err(late)??.stream;
        if let Some(tls) = &endpoint.tls {
            let secured = tls.connect(stream, endpoint.host()).await;
            stream = Box::new(secured.map_err(|error| error.to_string())?);
        }
        get(stream, &endpoint.authority).await
    }
}

/// Asks for the text on a new connection.
async fn get(stream: Box<dyn Duplex>, authority: &str) -> Result<String, String> {
    let (mut sender, connection) =
        handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // Ends with the response, or when a timeout drops the stream.
    let connection = async move { connection.await.map_err(|error| error.to_string()) };
    let exchange = async move {
        let request = http::Request::get(PATH)
            .header(http::header::HOST, authority)
            .header(http::header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        if status != http::StatusCode::OK {
            return Err(format!("the server answered {status}"));
        }
        let body = Limited::new(answer.into_body(), TEXT_BYTES_MAX).collect().await;
        let bytes = body.map_err(|error| error.to_string())?.to_bytes();
        String::from_utf8(bytes.into()).map_err(|error| error.to_string())
    };
    let (text, ended) = tokio::join!(exchange, connection);
    // A text of the announced length is complete, even if the connection ended with an error.
    text.map_err(|why| ended.err().unwrap_or(why))
}
