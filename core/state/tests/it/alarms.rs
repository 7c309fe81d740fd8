//! Alarms: they refuse requests, and survive a restart.

use crate::support::{World, settings};
use proto::etcdserverpb::{
    AlarmRequest, AlarmType, InternalRaftRequest, PutRequest, alarm_request::AlarmAction,
};
use state::{Effect, Reject};

fn alarm(action: AlarmAction, alarm: AlarmType) -> InternalRaftRequest {
    let alarm = AlarmRequest { action: action.into(), member_id: 7, alarm: alarm.into() };
    InternalRaftRequest { alarm: Some(alarm), ..InternalRaftRequest::default() }
}

/// Applies a put. If it is refused, returns the reason.
fn refusal_of_put(world: &mut World) -> Option<Reject> {
    let put = PutRequest { key: "k".into(), value: "v".into(), ..PutRequest::default() };
    let put = InternalRaftRequest { put: Some(put), ..InternalRaftRequest::default() };
    let results: Vec<_> = world
        .apply(1, put)
        .into_iter()
        .filter_map(
            |effect| if let Effect::Answer(_, result) = effect { Some(result) } else { None },
        )
        .collect();
    let [result] = &results[..] else { panic!("a put has one answer: {results:?}") };
    result.as_ref().err().cloned()
}

#[test]
fn the_corrupt_alarm_refuses_writes_until_it_is_disarmed() {
    let mut world = World::new(settings());
    assert_eq!(refusal_of_put(&mut world), None);
    world.apply(1, alarm(AlarmAction::Activate, AlarmType::Corrupt));
    assert_eq!(refusal_of_put(&mut world), Some(Reject::Corrupt));
    world.apply(1, alarm(AlarmAction::Deactivate, AlarmType::Corrupt));
    assert_eq!(refusal_of_put(&mut world), None);
}

#[test]
fn alarms_survive_a_restart_and_so_does_their_end() {
    for kind in [AlarmType::Corrupt, AlarmType::Nospace] {
        let mut world = World::new(settings());
        world.apply(1, alarm(AlarmAction::Activate, kind));
        world.restart(settings());
        assert!(world.state.published().alarms.is_on(kind), "{kind:?}");
        world.apply(1, alarm(AlarmAction::Deactivate, kind));
        world.restart(settings());
        assert!(!world.state.published().alarms.is_on(kind), "{kind:?}");
    }
}
