//! Responses as text in the format of `--write-out`. Pure: a response in, bytes out.
//!
//! Source: etcd v3.7.1 etcdctl/ctlv3/command/printer.go.

mod accounts;
mod endpoints;
mod fields;
mod format;
mod json;
mod simple;
#[cfg(test)]
mod tests;

use crate::failure::{Code, CommandResult};
use cli::Format;
use prost::Message;
use proto::etcdserverpb as pb;

pub(crate) use accounts::AuthChange;
pub(crate) use endpoints::{Hash, Health, Status};
pub(crate) use format::Printer;

/// A membership change that was made, with the id of its member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemberChange {
    /// A member was removed.
    Removed(u64),
    /// A member's URLs were changed.
    Updated(u64),
    /// A learner became a voter.
    Promoted(u64),
}

/// Bytes to print, or an error if the format does not support the response.
pub(crate) type Printed = CommandResult<Vec<u8>>;

impl Printer {
    fn unsupported(self) -> Printed {
        let name = self.format.name();
        Err(Code::BadFeature.with(format!("{name} not supported as output format")))
    }

    pub(crate) fn range(self, answer: &pb::RangeResponse) -> Printed {
        match self.format {
            Format::Simple => Ok(simple::range(self, answer)),
            Format::Fields => Ok(fields::range(self, answer)),
            Format::Json => line(json::range(answer)),
            Format::Protobuf => Ok(answer.encode_to_vec()),
            Format::Table => self.unsupported(),
        }
    }

    pub(crate) fn put(self, answer: &pb::PutResponse) -> Printed {
        match self.format {
            Format::Simple => Ok(simple::put(self, answer)),
            Format::Fields => Ok(fields::put(self, answer)),
            Format::Json => line(json::put(answer)),
            Format::Protobuf => Ok(answer.encode_to_vec()),
            Format::Table => self.unsupported(),
        }
    }

    pub(crate) fn delete(self, answer: &pb::DeleteRangeResponse) -> Printed {
        match self.format {
            Format::Simple => Ok(simple::delete(self, answer)),
            Format::Fields => Ok(fields::delete(self, answer)),
            Format::Json => line(json::delete(answer)),
            Format::Protobuf => Ok(answer.encode_to_vec()),
            Format::Table => self.unsupported(),
        }
    }

    pub(crate) fn txn(self, answer: &pb::TxnResponse) -> Printed {
        match self.format {
            Format::Simple => Ok(simple::txn(self, answer)),
            Format::Fields => Ok(fields::txn(self, answer)),
            Format::Json => line(json::txn(answer)),
            Format::Protobuf => Ok(answer.encode_to_vec()),
            Format::Table => self.unsupported(),
        }
    }

    pub(crate) fn watch(self, answer: &pb::WatchResponse) -> Printed {
        match self.format {
            Format::Simple => Ok(simple::watch(self, answer)),
            Format::Fields => Ok(fields::watch(self, answer)),
            Format::Json => line(json::watch(answer)),
            // Go's client library keeps only these fields, so etcdctl prints no others.
            Format::Protobuf => Ok(pb::WatchResponse {
                header: answer.header,
                events: answer.events.clone(),
                compact_revision: answer.compact_revision,
                canceled: answer.canceled,
                created: answer.created,
                ..Default::default()
            }
            .encode_to_vec()),
            Format::Table => self.unsupported(),
        }
    }

    pub(crate) fn lease_grant(self, answer: &pb::LeaseGrantResponse) -> Printed {
        let (id, ttl) = (answer.id, answer.ttl);
        match self.format {
            Format::Simple => line(format!("lease {id:016x} granted with TTL({ttl}s)")),
            Format::Fields => Ok(fields::lease(self, answer.header.as_ref(), id, ttl)),
            Format::Json => line(json::lease_grant(answer)),
            Format::Protobuf => Ok(header_only(answer.header.as_ref())),
            Format::Table => self.unsupported(),
        }
    }

    pub(crate) fn lease_revoke(self, id: i64, answer: &pb::LeaseRevokeResponse) -> Printed {
        match self.format {
            Format::Simple => line(format!("lease {id:016x} revoked")),
            Format::Fields => Ok(fields::header(self, answer.header.as_ref()).into_bytes()),
            Format::Json => line(json::only_header(answer.header.as_ref())),
            // Go's type cannot be marshalled; etcdctl prints an error that contains the struct.
            Format::Protobuf => {
                Err(Code::BadFeature
                    .with("marshal unsupported for type *clientv3.LeaseRevokeResponse"))
            }
            Format::Table => self.unsupported(),
        }
    }

    pub(crate) fn keep_alive(self, answer: &pb::LeaseKeepAliveResponse) -> Printed {
        let (id, ttl) = (answer.id, answer.ttl);
        match self.format {
            Format::Simple => line(format!("lease {id:016x} keepalived with TTL({ttl})")),
            Format::Fields => Ok(fields::lease(self, answer.header.as_ref(), id, ttl)),
            Format::Json => line(json::keep_alive(answer)),
            Format::Protobuf => Ok(header_only(answer.header.as_ref())),
            Format::Table => self.unsupported(),
        }
    }

    pub(crate) fn time_to_live(self, answer: &pb::LeaseTimeToLiveResponse, keys: bool) -> Printed {
        match self.format {
            Format::Simple => Ok(simple::time_to_live(answer, keys)),
            Format::Fields => Ok(fields::time_to_live(self, answer)),
            Format::Json => line(json::time_to_live(answer)),
            Format::Protobuf => Ok(header_only(answer.header.as_ref())),
            Format::Table => self.unsupported(),
        }
    }

    pub(crate) fn leases(self, answer: &pb::LeaseLeasesResponse) -> Printed {
        match self.format {
            Format::Simple => Ok(simple::leases(answer)),
            Format::Fields => Ok(fields::leases(self, answer)),
            Format::Json => line(json::leases(answer)),
            Format::Protobuf => Ok(header_only(answer.header.as_ref())),
            Format::Table => self.unsupported(),
        }
    }

    pub(crate) fn alarm(self, answer: &pb::AlarmResponse) -> Printed {
        match self.format {
            Format::Simple => Ok(simple::alarm(answer)),
            Format::Fields => Ok(fields::alarm(self, answer)),
            Format::Json => line(json::alarm(answer)),
            Format::Protobuf => Ok(answer.encode_to_vec()),
            Format::Table => self.unsupported(),
        }
    }

    pub(crate) fn member_list(self, answer: &pb::MemberListResponse) -> Printed {
        match self.format {
            Format::Simple => Ok(endpoints::rows(&endpoints::members(answer))),
            Format::Fields => Ok(fields::member_list(self, answer)),
            Format::Json => {
                line(json::members(self.hex, answer.header.as_ref(), None, &answer.members))
            }
            Format::Protobuf => Ok(answer.encode_to_vec()),
            Format::Table => Ok(endpoints::member_table(answer)),
        }
    }

    pub(crate) fn member_add(self, answer: &pb::MemberAddResponse) -> Printed {
        match self.format {
            Format::Simple => Ok(simple::member_add(answer)),
            Format::Json => line(json::members(
                self.hex,
                answer.header.as_ref(),
                Some(answer.member.as_ref()),
                &answer.members,
            )),
            Format::Protobuf => Ok(answer.encode_to_vec()),
            Format::Fields | Format::Table => self.unsupported(),
        }
    }

    pub(crate) fn member_change(
        self,
        change: MemberChange,
        header: Option<&pb::ResponseHeader>,
        members: &[pb::Member],
    ) -> Printed {
        let cluster = header.map_or(0, |header| header.cluster_id);
        match self.format {
            Format::Simple => line(match change {
                MemberChange::Removed(id) => {
                    format!("Member {id:16x} removed from cluster {cluster:16x}")
                }
                MemberChange::Updated(id) => {
                    format!("Member {id:16x} updated in cluster {cluster:16x}")
                }
                MemberChange::Promoted(id) => {
                    format!("Member {id:16x} promoted in cluster {cluster:16x}")
                }
            }),
            Format::Json => line(json::members(self.hex, header, None, members)),
            // The responses to all three changes have the same fields with the same numbers.
            Format::Protobuf => {
                let (header, members) = (header.copied(), members.to_vec());
                Ok(pb::MemberRemoveResponse { header, members }.encode_to_vec())
            }
            Format::Fields | Format::Table => self.unsupported(),
        }
    }

    pub(crate) fn move_leader(
        self,
        (from, to): (u64, u64),
        answer: &pb::MoveLeaderResponse,
    ) -> Printed {
        match self.format {
            Format::Simple => line(format!("Leadership transferred from {from:x} to {to:x}")),
            Format::Json => line(json::only_header(answer.header.as_ref())),
            Format::Protobuf => Ok(answer.encode_to_vec()),
            Format::Fields | Format::Table => self.unsupported(),
        }
    }

    pub(crate) fn downgrade(self, action: &str, answer: &pb::DowngradeResponse) -> Printed {
        match self.format {
            Format::Simple => {
                line(format!("Downgrade {action} success, cluster version {}", answer.version))
            }
            Format::Json => line(json::downgrade(answer)),
            Format::Protobuf => Ok(answer.encode_to_vec()),
            Format::Fields | Format::Table => self.unsupported(),
        }
    }

    pub(crate) fn health(self, list: &[Health]) -> Printed {
        match self.format {
            Format::Simple => Ok(endpoints::healthy(list)),
            Format::Fields => Ok(endpoints::health_fields(list)),
            Format::Json => line(json::health(list)),
            Format::Protobuf => self.unsupported(),
            Format::Table => Ok(endpoints::health_table(list)),
        }
    }

    pub(crate) fn status(self, list: &[Status]) -> Printed {
        match self.format {
            Format::Simple => Ok(endpoints::rows(&endpoints::status_rows(list))),
            Format::Fields => Ok(endpoints::status_fields(self, list)),
            Format::Json => line(json::status(list)),
            Format::Protobuf => self.unsupported(),
            Format::Table => Ok(endpoints::status_table(list)),
        }
    }

    pub(crate) fn hash(self, list: &[Hash]) -> Printed {
        match self.format {
            Format::Simple => Ok(endpoints::rows(&endpoints::hash_rows(list))),
            Format::Fields => Ok(endpoints::hash_fields(self, list)),
            Format::Json => line(json::hash(list)),
            Format::Protobuf => self.unsupported(),
            Format::Table => Ok(endpoints::hash_table(list)),
        }
    }
}

fn line(text: String) -> Printed {
    let mut bytes = text.into_bytes();
    bytes.push(b'\n');
    Ok(bytes)
}

/// Go's structs for leases contain the header and nothing else that can be marshalled.
fn header_only(header: Option<&pb::ResponseHeader>) -> Vec<u8> {
    header.map(Message::encode_to_vec).unwrap_or_default()
}
