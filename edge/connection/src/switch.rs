//! Another protocol on a connection that began with HTTP/1.1: the answer 101, and a conversation over
//! the bytes that follow it (RFC 9110 §7.8).

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use tokio::io::{AsyncRead, AsyncWrite};

/// The bytes of a connection after its answer 101.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

/// A conversation in another protocol. The connection is closed when it ends.
pub type Conversation = Box<dyn FnOnce(Box<dyn Duplex>) -> Pin<Box<dyn Future<Output = ()>>>>;

/// Takes the conversation that follows the answer to a request. Clones belong to one request.
#[derive(Clone, Default)]
pub struct Switch(Rc<RefCell<Option<Conversation>>>);

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Switch")
    }
}

impl Switch {
    /// Sets the conversation. The request must be answered with 101.
    pub fn to(&self, conversation: Conversation) {
        *self.0.borrow_mut() = Some(conversation);
    }

    pub(crate) fn take(&self) -> Option<Conversation> {
        self.0.borrow_mut().take()
    }
}
