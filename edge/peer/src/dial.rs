//! Connections to other members, with TLS or without.

use net::Url;
use net::tls::ClientTls;
use socket2::{SockRef, TcpKeepalive};
use std::fmt::Display;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, UnixStream, lookup_host};
use tokio::time::{Instant, timeout_at};

/// The interval of TCP keep-alive probes.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A stream of bytes in both directions.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}

/// The target of a request: a dialer and a URL.
pub(crate) type To<'a> = (&'a Dialer, &'a Url);

/// Opens connections to other members. Clones share the certificates.
#[derive(Clone, Debug)]
pub struct Dialer {
    /// TLS for `https` URLs.
    tls: Option<Arc<ClientTls>>,
    /// The time for a connection, with its TLS handshake.
    time_max: Duration,
    /// The address of this machine that connections come from; `None` for the system's choice.
    local: Option<IpAddr>,
}

impl Dialer {
    /// A dialer with a time limit for each connection. Without `tls` it refuses `https` URLs.
    #[must_use]
    pub fn new(tls: Option<Arc<ClientTls>>, time_max: Duration) -> Dialer {
        Dialer { tls, time_max, local: None }
    }

    /// The same with connections that come from this address of this machine.
    #[must_use]
    pub fn from_address(self, local: Option<IpAddr>) -> Dialer {
        Dialer { local, ..self }
    }

    /// Connects to a URL. The error has Go's words.
    pub(crate) async fn dial(&self, url: &Url) -> Result<Pin<Box<dyn Duplex>>, String> {
        let end = Instant::now() + self.time_max;
        if url.scheme().is_unix() {
            let text = |error: &dyn Display| format!("dial unix {}: {error}", url.address());
            let stream = timeout_at(end, UnixStream::connect(url.address()))
                .await
                .map_err(|_| text(&"i/o timeout"))?
                .map_err(|error| text(&format!("connect: {}", plain(&error))))?;
            return self.secure(url, stream, end).await;
        }
        let text = |error: &dyn Display| format!("dial tcp {}: {error}", url.address());
        let port: u16 = url.port().parse().map_err(|_| format!("bad port in {url}"))?;
        let stream = timeout_at(end, connect((url.host(), port), self.local))
            .await
            .map_err(|_| text(&"i/o timeout"))?
            .map_err(|error| text(&plain(&error)))?;
        stream.set_nodelay(true).map_err(|error| text(&error))?;
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
        SockRef::from(&stream).set_tcp_keepalive(&keepalive).map_err(|error| text(&error))?;
        self.secure(url, stream, end).await
    }

    /// Makes the TLS handshake, if the URL asks for it.
    async fn secure<S>(
        &self,
        url: &Url,
        stream: S,
        end: Instant,
    ) -> Result<Pin<Box<dyn Duplex>>, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if !url.scheme().is_secure() {
            return Ok(Box::pin(stream));
        }
        let Some(tls) = &self.tls else {
            return Err(format!("dial {}: there are no TLS settings for peers", url.address()));
        };
        let secured = timeout_at(end, tls.connect(stream, url.host())).await;
        let secured = secured.map_err(|_| "net/http: TLS handshake timeout".to_owned())?;
        Ok(Box::pin(secured.map_err(|error| error.to_string())?))
    }
}

/// Connects to the first address of a host that accepts the connection, from `local` if it is given.
async fn connect(to: (&str, u16), local: Option<IpAddr>) -> io::Result<TcpStream> {
    let Some(local) = local else { return TcpStream::connect(to).await };
    let mut failed = io::Error::other("no suitable address found");
    for address in lookup_host(to).await?.filter(|address| address.is_ipv4() == local.is_ipv4()) {
        let socket = if local.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind(SocketAddr::new(local, 0))?;
        match socket.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// An error of the operating system without its number, as Go prints it.
fn plain(error: &io::Error) -> String {
    let text = error.to_string().to_lowercase();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn connections_come_from_the_address_that_was_set() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let local: IpAddr = "127.0.0.2".parse().unwrap();
        let dialer = Dialer::new(None, TIME).from_address(Some(local));
        let _stream = dialer.dial(&url).await.unwrap();
        let (_, remote) = listener.accept().await.unwrap();
        assert_eq!(remote.ip(), local);
    }

    #[tokio::test]
    async fn an_address_of_another_family_reaches_nothing() {
        let url = Url::parse("http://127.0.0.1:1").unwrap();
        let dialer = Dialer::new(None, TIME).from_address(Some("::1".parse().unwrap()));
        let error = dialer.dial(&url).await.err().unwrap();
        assert_eq!(error, "dial tcp 127.0.0.1:1: no suitable address found");
    }
}
