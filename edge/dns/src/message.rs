//! Messages of DNS, as far as questions for SRV records need them.
//!
//! - A message is at most 64 KiB, a name at most 255 bytes.
//! - A compressed name points only backwards, so that reading it ends.
//!
//! Source: RFC 1035 §4, RFC 2782.

const HEADER_BYTES: usize = 12;
const LABEL_BYTES_MAX: usize = 63;
const NAME_BYTES_MAX: usize = 255;
const TYPE_SRV: u16 = 33;
const CLASS_INTERNET: u16 = 1;
/// The flag of a question that asks the server to ask others.
const RECURSION_DESIRED: u16 = 0x0100;
const IS_RESPONSE: u16 = 0x8000;
const IS_TRUNCATED: u16 = 0x0200;
const CODE_MASK: u16 = 0x000f;

/// Where a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SrvRecord {
    /// Servers with the lowest one are used first.
    pub priority: u16,
    /// The share of the clients among the servers of one priority.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host, without the dot at its end.
    pub target: String,
}

/// A server's answer to a question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// 0, or why there is no answer.
    pub(crate) code: u16,
    /// Whether the answer was too long for a datagram.
    pub(crate) is_truncated: bool,
    /// The records whose targets are host names.
    pub(crate) records: Vec<SrvRecord>,
}

/// The bytes of a question for the SRV records of a name, which ends with a dot or without one; `None` if
/// it is not a name.
pub(crate) fn question(id: u16, name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + name.len() + 6);
    for word in [id, RECURSION_DESIRED, 1, 0, 0, 0] {
        bytes.extend(word.to_be_bytes());
    }
    for label in name.strip_suffix('.').unwrap_or(name).split('.') {
        let length = u8::try_from(label.len()).ok()?;
        if label.is_empty() || label.len() > LABEL_BYTES_MAX || !label.is_ascii() {
            return None;
        }
        bytes.push(length);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    if bytes.len() - HEADER_BYTES > NAME_BYTES_MAX {
        return None;
    }
    bytes.extend(TYPE_SRV.to_be_bytes());
    bytes.extend(CLASS_INTERNET.to_be_bytes());
    Some(bytes)
}

/// Reads the answer to a question; `None` if the bytes are not an answer to it.
pub(crate) fn answer(question: &[u8], bytes: &[u8]) -> Option<Answer> {
    let mut reader = Reader { bytes, at: 0 };
    let (id, flags) = (reader.u16()?, reader.u16()?);
    let (questions, answers) = (reader.u16()?, reader.u16()?);
    reader.skip(4)?;
    if Some(&id.to_be_bytes()[..]) != question.get(..2) || flags & IS_RESPONSE == 0 {
        return None;
    }
    let asked = question.get(HEADER_BYTES..)?;
    let repeated = bytes.get(HEADER_BYTES..HEADER_BYTES + asked.len())?;
    if questions != 1 || !repeated.eq_ignore_ascii_case(asked) {
        return None;
    }
    reader.skip(asked.len())?;
    let mut answer = Answer {
        code: flags & CODE_MASK,
        is_truncated: flags & IS_TRUNCATED != 0,
        records: Vec::new(),
    };
    for _ in 0..answers {
        match reader.record() {
            Some(record) => answer.records.extend(record),
            // The rest of a truncated answer is missing; the answer is asked for again.
            None if answer.is_truncated => break,
            None => return None,
        }
    }
    Some(answer)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn skip(&mut self, count: usize) -> Option<()> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len())?;
        self.at = end;
        Some(())
    }

    fn u8(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    /// Reads a record; `Some(None)` if it is of another type, or its target is not a host.
    fn record(&mut self) -> Option<Option<SrvRecord>> {
        self.name()?;
        let (kind, class) = (self.u16()?, self.u16()?);
        self.skip(4)?;
        let length = usize::from(self.u16()?);
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        let mut record = None;
        if (kind, class) == (TYPE_SRV, CLASS_INTERNET) {
            let (priority, weight, port) = (self.u16()?, self.u16()?, self.u16()?);
            let target = self.name()?;
            if self.at > end {
                return None;
            }
            record = is_host(&target).then_some(SrvRecord { priority, weight, port, target });
        }
        self.at = end;
        Some(record)
    }

    /// Reads a name, which may continue at a place further ahead.
    fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        // Where the reader goes on, once the name has continued elsewhere.
        let mut after = None;
        let mut start = self.at;
        loop {
            let length = usize::from(self.u8()?);
            match length >> 6 {
                0 if length == 0 => break,
                0 => {
                    let label = self.bytes.get(self.at..self.at + length)?;
                    self.at += length;
                    if !name.is_empty() {
                        name.push('.');
                    }
                    name.extend(label.iter().copied().map(char::from));
                    if name.len() > NAME_BYTES_MAX {
                        return None;
                    }
                }
                3 => {
                    let place = (length & 0x3f) << 8 | usize::from(self.u8()?);
                    if place >= start {
                        return None;
                    }
                    after.get_or_insert(self.at);
                    (self.at, start) = (place, place);
                }
                _ => return None,
            }
        }
        self.at = after.unwrap_or(self.at);
        Some(name)
    }
}

/// Whether a target can be the host of a URL. The root, `.`, says that there is no such service.
fn is_host(target: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    target.split('.').all(|label| !label.is_empty() && label.bytes().all(is_letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &[u8] = b"\x0c_etcd-client\x04_tcp\x07example\x00";

    /// An answer to the question for `_etcd-client._tcp.example` with this many records.
    fn response(flags: u16, count: u16, records: &[u8]) -> Vec<u8> {
        let header = [7, 0x8180 | flags, 1, count, 0, 0];
        let mut bytes: Vec<u8> = header.iter().flat_map(|word| word.to_be_bytes()).collect();
        bytes.extend(NAME);
        bytes.extend([0, 33, 0, 1]);
        bytes.extend(records);
        bytes
    }

    /// A record whose owner is the name of the question, and whose target is this name.
    fn record(kind: u8, target: &[u8]) -> Vec<u8> {
        let length = u8::try_from(6 + target.len()).unwrap();
        let mut bytes = vec![0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 9, 0, length, 0, 1, 0, 2, 9, 75];
        bytes.extend(target);
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Answer> {
        answer(&question(7, "_etcd-client._tcp.example.").unwrap(), bytes)
    }

    #[test]
    fn a_question_has_the_bytes_of_rfc_1035() {
        let mut wanted = b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
        wanted.extend(NAME);
        wanted.extend([0, 33, 0, 1]);
        assert_eq!(question(7, "_etcd-client._tcp.example"), Some(wanted));
        let long = "a".repeat(64);
        let many = "abcdefg.".repeat(32);
        for bad in ["", ".", "a..b", "ä", &*long, &*many] {
            assert_eq!(question(7, bad), None, "{bad}");
        }
    }

    #[test]
    fn records_are_read_with_compressed_targets_and_others_are_passed_over() {
        let mut records = record(33, b"\x01a\xc0\x1e");
        records.extend(record(5, b"\x01b\x00"));
        records.extend(record(33, b"\x03b-1\x00"));
        // No service, and a target that is not a host.
        records.extend(record(33, b"\x00"));
        records.extend(record(33, b"\x03a/b\x00"));
        let answer = read(&response(0, 5, &records)).unwrap();
        assert_eq!((answer.code, answer.is_truncated), (0, false));
        let targets: Vec<&str> = answer.records.iter().map(|r| &*r.target).collect();
        assert_eq!(targets, ["a.example", "b-1"]);
        let first = &answer.records[0];
        assert_eq!((first.priority, first.weight, first.port), (1, 2, 2379));
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let good = response(3, 0, &[]);
        assert_eq!(read(&good).unwrap().code, 3);
        for at in [1, 2, 5, 15] {
            let mut bad = good.clone();
            bad[at] ^= 0x80;
            assert_eq!(read(&bad), None, "byte {at}");
        }
    }

    #[test]
    fn a_name_that_points_forwards_or_at_itself_is_refused() {
        // The record begins at 42, its target at 60.
        for target in [&b"\xc0\x3c"[..], b"\xc0\x3d\x00", b"\x01a\xc0\x3c"] {
            assert_eq!(read(&response(0, 1, &record(33, target))), None, "{target:?}");
        }
    }

    #[test]
    fn a_cut_answer_is_none_unless_it_says_that_it_is_truncated() {
        let records = record(33, b"\x01a\x00");
        let whole = response(0, 1, &records);
        for length in 0..whole.len() {
            assert_eq!(read(&whole[..length]), None, "{length} bytes");
        }
        let truncated = response(0x0200, 2, &records);
        let answer = read(&truncated).unwrap();
        assert!(answer.is_truncated);
        assert_eq!(answer.records.len(), 1);
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut records = record(33, b"\x01a\xc0\x1e");
        records.extend(record(33, b"\x03b-1\x00"));
        let good = response(0, 2, &records);
        for at in 0..good.len() {
            for value in 0..=255 {
                let mut bytes = good.clone();
                bytes[at] = value;
                if let Some(answer) = read(&bytes) {
                    assert!(answer.records.len() <= 2, "byte {at} is {value}");
                }
            }
        }
    }
}
