//! Watch responses as framed messages. Many streams of a worker get the same event one after
//! another, so the last frames are kept and sent again as long as the responses are the same.

use bytes::Bytes;
use rpc::frame::check_sent;
use rpc::{Segments, Status};
use std::cell::RefCell;
use watch::Response;

/// Responses that are longer than this in total, in bytes, are not kept.
const KEPT_MAX: usize = 256 * 1024;

/// The last responses and their frames.
#[derive(Debug, Default)]
pub(crate) struct LastFramed(RefCell<(Vec<Response>, Vec<Bytes>)>);

impl LastFramed {
    /// The messages of these responses, with their prefixes.
    ///
    /// # Errors
    /// When one is too long to be sent.
    pub(crate) fn framed(&self, responses: Vec<Response>) -> Result<Vec<Bytes>, Status> {
        let mut last = self.0.borrow_mut();
        if last.0.len() == responses.len() && last.0.iter().zip(&responses).all(same) {
            return Ok(last.1.clone());
        }
        let mut segments = Segments::new();
        for response in &responses {
            check_sent(response.len())?;
            segments.message(response.len(), |to| {
                to.slice(&response.head);
                to.shared(&response.events);
            });
        }
        let is_kept = segments.len() <= KEPT_MAX;
        let pieces = segments.into_pieces();
        *last = if is_kept { (responses, pieces.clone()) } else { Default::default() };
        Ok(pieces)
    }
}

/// True if the heads are equal and the events are the same bytes in memory.
fn same((left, right): (&Response, &Response)) -> bool {
    std::ptr::eq(left.events.as_ptr(), right.events.as_ptr())
        && left.events.len() == right.events.len()
        && left.head == right.head
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(head: u8, events: &Bytes) -> Response {
        Response { head: vec![head; 4].into(), events: events.clone() }
    }

    #[test]
    fn equal_responses_are_framed_once_and_others_anew() {
        let last = LastFramed::default();
        let events = Bytes::from(vec![1; 300]);
        let two = |head| vec![response(head, &events), response(9, &Bytes::new())];
        let first = last.framed(two(1)).unwrap();
        let messages = [&[0, 0, 0, 1, 48, 1, 1, 1, 1][..], &events, &[0, 0, 0, 0, 4, 9, 9, 9, 9]];
        assert_eq!(first.concat(), messages.concat());
        let again = last.framed(two(1)).unwrap();
        assert!(std::ptr::eq(first[0].as_ptr(), again[0].as_ptr()));
        assert_eq!(last.framed(two(2)).unwrap().concat()[5], 2);
        assert_eq!(last.framed(two(2)[..1].to_vec()).unwrap().concat().len(), 309);
        let twin = Bytes::from(vec![3; 300]);
        assert_eq!(last.framed(vec![response(2, &twin)]).unwrap().concat()[9], 3);
    }

    #[test]
    fn a_response_that_no_message_can_hold_is_an_error() {
        // Zeros that are never read take no memory.
        let long = response(1, &vec![0; rpc::frame::SENT_MAX - 3].into());
        let status = LastFramed::default().framed(vec![long]).unwrap_err();
        let why = "grpc: trying to send message larger than max (2147483648 vs. 2147483647)";
        assert_eq!(status.message, why);
    }

    #[test]
    fn long_responses_are_not_kept() {
        let last = LastFramed::default();
        let long = response(1, &vec![0; KEPT_MAX].into());
        assert_eq!(last.framed(vec![long]).unwrap().concat().len(), KEPT_MAX + 9);
        assert!(last.0.borrow().0.is_empty());
    }
}
