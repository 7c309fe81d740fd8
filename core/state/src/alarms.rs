//! The active alarms. Each (member, alarm) is one item of the bucket `alarm`: the key is the
//! encoded message, the value is empty.
//!
//! Source: etcd v3.7 server/etcdserver/api/v3alarm/alarms.go, server/storage/schema/alarm.go.

use backend::{Batch, Bucket};
use bytes::Bytes;
use prost::Message as _;
use proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmType, alarm_request::AlarmAction};
use std::collections::BTreeSet;

/// The alarms by type and member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    rows: BTreeSet<(i32, u64)>,
}

impl Alarms {
    /// Reads the keys of the bucket. Keys that are not alarms are ignored, as etcd does.
    pub fn load(keys: impl IntoIterator<Item = Bytes>) -> Alarms {
        let rows = keys
            .into_iter()
            .filter_map(|key| AlarmMember::decode(key).ok())
            .map(|alarm| (alarm.alarm, alarm.member_id))
            .collect();
        Alarms { rows }
    }

    /// True while a member has the alarm.
    #[must_use]
    pub fn is_on(&self, alarm: AlarmType) -> bool {
        !self.of_type(alarm.into()).is_empty()
    }

    /// All alarms of a type; of every type for [`AlarmType::None`].
    #[must_use]
    pub fn of_type(&self, alarm: i32) -> Vec<AlarmMember> {
        let every = alarm == i32::from(AlarmType::None);
        self.rows
            .iter()
            .filter(|(row, _)| every || *row == alarm)
            .map(|&(alarm, member_id)| AlarmMember { member_id, alarm })
            .collect()
    }

    /// Executes the request. Returns the alarms that it asked for or changed.
    pub fn apply(&mut self, request: &AlarmRequest, batch: &mut Batch) -> Vec<AlarmMember> {
        let row = (request.alarm, request.member_id);
        let alarm = AlarmMember { member_id: request.member_id, alarm: request.alarm };
        let key = || Bytes::from(alarm.encode_to_vec());
        match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => self.of_type(request.alarm),
            Ok(AlarmAction::Activate) if request.alarm != i32::from(AlarmType::None) => {
                if self.rows.insert(row) {
                    batch.put(Bucket::Alarm, key(), Bytes::new());
                }
                vec![alarm]
            }
            Ok(AlarmAction::Deactivate) if self.rows.remove(&row) => {
                batch.delete(Bucket::Alarm, key());
                vec![alarm]
            }
            Ok(AlarmAction::Activate | AlarmAction::Deactivate) | Err(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::EntryId;

    fn apply(alarms: &mut Alarms, action: AlarmAction, member_id: u64) -> Vec<AlarmMember> {
        let request =
            AlarmRequest { action: action.into(), member_id, alarm: AlarmType::Nospace.into() };
        alarms.apply(&request, &mut Batch::new(EntryId::default()))
    }

    #[test]
    fn an_alarm_is_on_until_the_last_member_deactivates_it() {
        let mut alarms = Alarms::default();
        apply(&mut alarms, AlarmAction::Activate, 1);
        apply(&mut alarms, AlarmAction::Activate, 2);
        assert_eq!(apply(&mut alarms, AlarmAction::Deactivate, 1).len(), 1);
        assert!(alarms.is_on(AlarmType::Nospace));
        assert_eq!(apply(&mut alarms, AlarmAction::Deactivate, 1).len(), 0);
        apply(&mut alarms, AlarmAction::Deactivate, 2);
        assert!(!alarms.is_on(AlarmType::Nospace));
        assert!(!alarms.is_on(AlarmType::Corrupt));
    }

    #[test]
    fn stored_alarms_are_loaded() {
        let key = AlarmMember { member_id: 7, alarm: AlarmType::Corrupt.into() }.encode_to_vec();
        let alarms = Alarms::load([key.into(), Bytes::from_static(b"\xff")]);
        assert!(alarms.is_on(AlarmType::Corrupt));
        assert_eq!(alarms.of_type(0).len(), 1);
    }
}
