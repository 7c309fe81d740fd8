//! Random permissions and requests against a simple twin: a range is allowed if every key in it at
//! which any range begins or ends is allowed by itself.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use auth::{Access, AuthStore, Caller, Denied, Guarded, KeyRange, Request};
use backend::Batch;
use bytes::Bytes;
use proto::EntryId;
use proto::authpb::{Permission, permission::Type};
use proto::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest,
    AuthUserAddRequest, AuthUserGrantRoleRequest, AuthUserRevokeRoleRequest,
};
use random::Random;
use std::collections::BTreeMap;

const ROLES: [&str; 3] = ["r0", "r1", "r2"];
const LETTERS: &[u8] = b"\0abz";

/// A request on one range.
#[derive(Clone)]
struct One {
    range: KeyRange,
    write: bool,
}

impl Guarded for One {
    fn each_access(
        &self,
        check: &mut dyn FnMut(Access<'_>) -> Result<(), Denied>,
    ) -> Result<(), Denied> {
        check(if self.write { Access::Write(&self.range) } else { Access::Read(&self.range) })
    }
}

fn key(random: &mut Random) -> Bytes {
    let len = 1 + random.below(2);
    (0..len).map(|_| LETTERS[usize::try_from(random.below(4)).unwrap()]).collect()
}

/// A single key, from a key on, or up to a key.
fn range(random: &mut Random) -> (Bytes, Bytes) {
    let from = key(random);
    match random.below(4) {
        0 => (from, Bytes::new()),
        1 => (from, Bytes::from_static(&[0])),
        _ => {
            let end = key(random);
            if end > from { (from, end) } else { (from, Bytes::new()) }
        }
    }
}

/// Permissions as granted: (role, key, end) to type.
#[derive(Default)]
struct Twin {
    granted: BTreeMap<(usize, Bytes, Bytes), Type>,
    of_user: [bool; 3],
}

impl Twin {
    fn allows_key(&self, key: &[u8], write: bool) -> bool {
        let other = if write { Type::Write } else { Type::Read };
        self.granted.iter().any(|((role, from, end), kind)| {
            let has = self.of_user[*role] && (*kind == other || *kind == Type::Readwrite);
            has && KeyRange::of_request(from.clone(), end.clone()).contains(key)
        })
    }

    fn allows(&self, one: &One) -> bool {
        let mut points = Vec::new();
        let mut note = |key: &Bytes| {
            let behind: Bytes = key.iter().copied().chain([0]).collect();
            points.extend([key.clone(), behind]);
        };
        for (_, from, end) in self.granted.keys() {
            note(from);
            note(end);
        }
        match &one.range {
            KeyRange::One(key) => return self.allows_key(key, one.write),
            KeyRange::Span { from, .. } => note(from),
        }
        let mut within = points.iter().filter(|point| one.range.contains(point));
        within.all(|point| self.allows_key(point, one.write))
    }
}

struct World {
    store: AuthStore,
    twin: Twin,
}

fn change(store: &mut AuthStore, request: Request) {
    let mut batch = Batch::new(EntryId::default());
    let root = Caller { user: "root".into(), auth_revision: store.revision() };
    store.change(&root, request, (1, 4), &mut batch).unwrap();
}

impl World {
    fn new() -> World {
        let mut store = AuthStore::disabled();
        let no_password = proto::authpb::UserAddOptions { no_password: true };
        for name in ["root", "u"] {
            let options = Some(no_password);
            let add = AuthUserAddRequest { name: name.into(), options, ..Default::default() };
            change(&mut store, Request::UserAdd(add));
        }
        for name in ROLES {
            change(&mut store, Request::RoleAdd(AuthRoleAddRequest { name: name.into() }));
        }
        let root = AuthUserGrantRoleRequest { user: "root".into(), role: "root".into() };
        change(&mut store, Request::UserGrantRole(root));
        change(&mut store, Request::Enable);
        World { store, twin: Twin::default() }
    }

    fn change_something(&mut self, random: &mut Random) {
        let role = usize::try_from(random.below(3)).unwrap();
        let name = ROLES[role].to_owned();
        match random.below(6) {
            0 => {
                let has = &mut self.twin.of_user[role];
                *has = !*has;
                let user = "u".to_owned();
                change(
                    &mut self.store,
                    if *has {
                        Request::UserGrantRole(AuthUserGrantRoleRequest { user, role: name })
                    } else {
                        Request::UserRevokeRole(AuthUserRevokeRoleRequest {
                            name: user,
                            role: name,
                        })
                    },
                );
            }
            1 => {
                let of_role = |key: &&(usize, Bytes, Bytes)| key.0 == role;
                let Some(gone) = self.twin.granted.keys().find(of_role).cloned() else { return };
                self.twin.granted.remove(&gone);
                let (_, key, range_end) = gone;
                let revoke = AuthRoleRevokePermissionRequest { role: name, key, range_end };
                change(&mut self.store, Request::RoleRevokePermission(revoke));
            }
            _ => {
                let (key, range_end) = range(random);
                let kind = [Type::Read, Type::Write, Type::Readwrite]
                    [usize::try_from(random.below(3)).unwrap()];
                let place = (role, key.clone(), range_end.clone());
                // etcd does not find a permission that is not the first of its key, and adds it
                // again.
                if self.twin.granted.contains_key(&place) {
                    return;
                }
                self.twin.granted.insert(place, kind);
                let perm = Some(Permission { perm_type: kind.into(), key, range_end });
                let grant = AuthRoleGrantPermissionRequest { name, perm };
                change(&mut self.store, Request::RoleGrantPermission(grant));
            }
        }
    }
}

#[test]
fn a_range_is_allowed_exactly_if_every_key_of_it_is() {
    let (mut allowed, mut denied) = (0, 0);
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let mut world = World::new();
        for step in 0..60 {
            world.change_something(&mut random);
            let (key, range_end) = range(&mut random);
            let one =
                One { range: KeyRange::of_request(key, range_end), write: random.below(2) == 0 };
            let caller = Caller { user: "u".into(), auth_revision: world.store.revision() };
            let found = world.store.permit(&caller, one.clone()).is_ok();
            let expected = world.twin.allows(&one);
            assert_eq!(found, expected, "seed {seed}, step {step}: {:?}", one.range);
            *(if found { &mut allowed } else { &mut denied }) += 1;
        }
    }
    assert!(allowed > 300 && denied > 300, "{allowed} allowed, {denied} denied");
}
