//! The client's SETTINGS, and what they change.
//!
//! Source: RFC 9113 §6.5.

use super::state::{Connection, ConnectionFault};
use crate::frame::{self, ACK, Reason, SETTINGS};

const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;

impl Connection {
    /// Applies the client's settings and acknowledges them.
    pub(super) fn apply_settings(&mut self, payload: &[u8]) -> Result<(), ConnectionFault> {
        if !payload.len().is_multiple_of(6) {
            let what = "SETTINGS of a length that is not a multiple of 6";
            return Err(ConnectionFault { reason: Reason::FRAME_SIZE_ERROR, what });
        }
        for setting in payload.chunks_exact(6) {
            let name = u16::from_be_bytes([setting[0], setting[1]]);
            let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
            self.apply_setting(name, value)?;
        }
        frame::write(SETTINGS, ACK, 0, &[], &mut self.out.bytes);
        Ok(())
    }

    fn apply_setting(&mut self, name: u16, value: u32) -> Result<(), ConnectionFault> {
        let fault = |reason, what| Err(ConnectionFault { reason, what });
        match name {
            HEADER_TABLE_SIZE => self.encoder.resize(value as usize),
            ENABLE_PUSH if value > 1 => {
                return fault(Reason::PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1");
            }
            INITIAL_WINDOW_SIZE => {
                if value > i32::MAX.unsigned_abs() {
                    return fault(Reason::FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE above 2^31-1");
                }
                let more = i64::from(value) - self.client.stream_window;
                self.client.stream_window = i64::from(value);
                for (key, stream) in self.streams.all_mut() {
                    if let Err(reason) = stream.open_window(more) {
                        return fault(reason, "INITIAL_WINDOW_SIZE makes a window too large");
                    }
                    if stream.is_waiting() && !std::mem::replace(&mut stream.is_queued, true) {
                        self.queue.push_back(key);
                    }
                }
            }
            MAX_FRAME_SIZE => {
                if !(16_384..=16_777_215).contains(&value) {
                    return fault(Reason::PROTOCOL_ERROR, "MAX_FRAME_SIZE out of its bounds");
                }
                self.client.frame_max = value as usize;
            }
            // The other settings do not concern a server, or are unknown and ignored.
            _ => {}
        }
        Ok(())
    }
}
