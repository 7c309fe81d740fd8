//! Serves one connection of a client: HTTP/2 with our own state machine (`http2`), HTTP/1.1 with
//! hyper. The first bytes decide which.
//!
//! The task that calls [`serve`] owns the socket, the machine and the calls: it polls the handlers
//! itself, and writes all ready output in one system call. A call needs no task and no channel.
//!
//! - **Invariant:** a handler and its response are dropped when the client resets the stream, or when
//!   the connection ends in any way.
//! - **Invariant:** a response is polled only while the client's windows and the socket have room for
//!   its data.
//! - **Invariant:** a panic of a handler ends only its stream.
//!
//! Not here: the services (`api`), TLS, seats and time limits (`net`), the rules of HTTP/2
//! (`http2`).

mod body;
mod calls;
mod driver;
mod error;
mod head;
mod http1;
mod liveness;
mod opening;
mod ready;
mod reply;
mod request;
mod settings;
mod streams;
mod switch;
#[cfg(test)]
mod wakes;

pub use body::{RequestBody, RequestError};
pub use error::Error;
pub use http2::{ConnectionFault, RefusedRequest};
pub use request::ClientRequest;
pub use settings::Settings;
pub use switch::{Conversation, Duplex, Switch};

use driver::Driver;
use net::{Seat, TimedStream};
use opening::{Opened, Protocol};
use rpc::body::Reply;
use std::pin::pin;
use std::rc::Rc;
use tokio::io::{AsyncRead, AsyncWrite};

/// Serves one connection until the client closes it, a time limit of [`net::limits`] has passed, or
/// its seat is needed for another connection. When `stop` completes, the client is told to begin no
/// further calls, and the connection ends after the last call.
///
/// # Errors
/// When the connection breaks, the client breaks a rule, or it does not answer a ping.
pub async fn serve<I, F>(
    io: I,
    settings: &Settings,
    seat: Seat,
    stop: impl Future<Output = ()>,
    service: impl Fn(ClientRequest) -> F,
) -> Result<(), Error>
where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
    F: Future<Output = Reply>,
{
    let seat = Rc::new(seat);
    let served = async {
        let (mut stop, mut io) = (pin!(stop), TimedStream::new(io));
        let opened = tokio::select! {
            opened = opening::read(&mut io) => opened?,
            () = &mut stop => return Ok(()),
        };
        match opened {
            Some(Opened { protocol: Protocol::Http1, input }) => {
                http1::serve(io, input.freeze(), &seat, stop, service).await
            }
            Some(Opened { protocol: Protocol::Http2, input }) => {
                Driver::new(io, input, settings, &seat, service).run(stop).await
            }
            None => Ok(()),
        }
    };
    tokio::select! {
        served = served => served,
        () = seat.closing() => Ok(()),
    }
}
