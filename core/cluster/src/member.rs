//! One member, and its JSON forms, byte for byte as Go writes them: in the bucket `members`, at
//! `/members` of a peer, in configuration changes, and in the v2 tree of a .snap file.
//!
//! | form | text |
//! |---|---|
//! | member | `{"id":1,"peerURLs":["…"],"isLearner":true,"name":"…","clientURLs":["…"]}` |
//! | promotion | `{"id":1,"peerURLs":null,"isPromote":true}` |
//! | raft attributes | `{"peerURLs":["…"],"isLearner":true}` |
//! | attributes | `{"name":"…","clientURLs":["…"]}` |
//!
//! All but id and peerURLs are left out when empty; ids are bare 64-bit numbers.
//!
//! Source: etcd v3.7 server/etcdserver/api/membership/{member,cluster}.go.

use proto::NodeId;
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// A member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: NodeId,
    /// Its name; empty until the member has published it.
    pub name: String,
    /// The URLs for other members.
    pub peer_urls: Vec<String>,
    /// The URLs for clients; empty until the member has published them.
    pub client_urls: Vec<String>,
    /// Whether it is a learner, which has no vote.
    pub is_learner: bool,
}

/// The attributes that a member publishes when it has started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Its name.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The URLs for clients.
    #[serde(
        default,
        rename = "clientURLs",
        deserialize_with = "or_null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub client_urls: Vec<String>,
}

/// The context of a configuration change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeContext {
    /// The member; for a promotion only its id.
    pub member: Member,
    /// Whether a learner becomes a voter.
    pub is_promote: bool,
}

/// Invalid JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadJson {
    /// The form that was expected.
    pub what: &'static str,
    /// The reason.
    pub why: String,
}

impl fmt::Display for BadJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bad {}: {}", self.what, self.why)
    }
}

impl std::error::Error for BadJson {}

/// The fields of all forms, in Go's order.
#[derive(Serialize, Deserialize)]
struct Json {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    #[serde(default, rename = "peerURLs")]
    peer_urls: Option<Vec<String>>,
    #[serde(
        default,
        rename = "isLearner",
        deserialize_with = "or_null",
        skip_serializing_if = "is_false"
    )]
    is_learner: bool,
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(
        default,
        rename = "clientURLs",
        deserialize_with = "or_null",
        skip_serializing_if = "Vec::is_empty"
    )]
    client_urls: Vec<String>,
    #[serde(
        default,
        rename = "isPromote",
        deserialize_with = "or_null",
        skip_serializing_if = "is_false"
    )]
    is_promote: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Go reads `null` as the zero value.
fn or_null<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

fn read<T: for<'de> Deserialize<'de>>(what: &'static str, json: &[u8]) -> Result<T, BadJson> {
    // serde also accepts an array of the fields for the struct.
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(BadJson { what, why: "not a JSON object".to_owned() });
    }
    serde_json::from_slice(json).map_err(|error| BadJson { what, why: error.to_string() })
}

/// Writes JSON as Go does.
pub(crate) fn write(value: &impl Serialize) -> String {
    let json = serde_json::to_string(value);
    proto::go_json::escape(&json.expect("structs of numbers, flags and strings are always written"))
}

impl Json {
    fn of(member: &Member) -> Json {
        let urls = &member.peer_urls;
        Json {
            id: Some(member.id.0),
            peer_urls: (!urls.is_empty()).then(|| urls.clone()),
            is_learner: member.is_learner,
            name: member.name.clone(),
            client_urls: member.client_urls.clone(),
            is_promote: false,
        }
    }

    fn into_member(self) -> Member {
        Member {
            id: NodeId(self.id.unwrap_or_default()),
            name: self.name,
            peer_urls: self.peer_urls.unwrap_or_default(),
            client_urls: self.client_urls,
            is_learner: self.is_learner,
        }
    }
}

impl Member {
    /// Whether the member has ever started. It publishes its name when it starts.
    #[must_use]
    pub fn is_started(&self) -> bool {
        !self.name.is_empty()
    }

    /// The member as it is stored and sent to peers.
    #[must_use]
    pub fn to_json(&self) -> String {
        write(&Json::of(self))
    }

    /// Reads what [`to_json`](Self::to_json) writes; unknown fields are ignored.
    ///
    /// # Errors
    /// When the JSON is invalid.
    pub fn from_json(json: &[u8]) -> Result<Member, BadJson> {
        read("member", json).map(Json::into_member)
    }

    /// The attributes of raft, as in the v2 tree.
    #[must_use]
    pub fn raft_attributes_json(&self) -> String {
        write(&Json { id: None, name: String::new(), client_urls: Vec::new(), ..Json::of(self) })
    }

    /// The attributes that the member published.
    #[must_use]
    pub fn attributes(&self) -> Attributes {
        Attributes { name: self.name.clone(), client_urls: self.client_urls.clone() }
    }
}

impl Attributes {
    /// The attributes as in the v2 tree.
    #[must_use]
    pub fn to_json(&self) -> String {
        write(self)
    }

    /// Reads what [`to_json`](Self::to_json) writes; unknown fields are ignored.
    ///
    /// # Errors
    /// When the JSON is invalid.
    pub fn from_json(json: &[u8]) -> Result<Attributes, BadJson> {
        read("member attributes", json)
    }
}

impl ChangeContext {
    /// The context of a configuration change.
    #[must_use]
    pub fn to_json(&self) -> String {
        write(&Json { is_promote: self.is_promote, ..Json::of(&self.member) })
    }

    /// Reads the context of a configuration change; unknown fields are ignored.
    ///
    /// # Errors
    /// When the JSON is invalid.
    pub fn from_json(json: &[u8]) -> Result<ChangeContext, BadJson> {
        let json: Json = read("context of a configuration change", json)?;
        Ok(ChangeContext { is_promote: json.is_promote, member: json.into_member() })
    }
}

/// The answer of `/members` on the peer port: all members by id, and a line feed.
#[must_use]
pub fn members_json<'a>(members: impl Iterator<Item = &'a Member>) -> String {
    let members: Vec<Json> = members.map(Json::of).collect();
    write(&members) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> Member {
        Member {
            id: NodeId(10_243_244_825_675_528_400),
            name: "n4".into(),
            peer_urls: vec!["http://127.0.0.1:31821".into()],
            client_urls: vec!["http://127.0.0.1:31820".into()],
            is_learner: true,
        }
    }

    #[test]
    fn the_texts_are_gos() {
        let n4 = member();
        assert_eq!(
            n4.to_json(),
            r#"{"id":10243244825675528400,"peerURLs":["http://127.0.0.1:31821"],"isLearner":true,"name":"n4","clientURLs":["http://127.0.0.1:31820"]}"#
        );
        assert_eq!(
            n4.raft_attributes_json(),
            r#"{"peerURLs":["http://127.0.0.1:31821"],"isLearner":true}"#
        );
        assert_eq!(
            n4.attributes().to_json(),
            r#"{"name":"n4","clientURLs":["http://127.0.0.1:31820"]}"#
        );
        let id_only = Member { id: NodeId(7), ..Member::default() };
        let promotion = ChangeContext { member: id_only.clone(), is_promote: true };
        assert_eq!(promotion.to_json(), r#"{"id":7,"peerURLs":null,"isPromote":true}"#);
        assert_eq!(members_json([&id_only].into_iter()), "[{\"id\":7,\"peerURLs\":null}]\n");
    }

    #[test]
    fn written_members_are_read_again() {
        let n4 = member();
        assert_eq!(Member::from_json(n4.to_json().as_bytes()), Ok(n4.clone()));
        let context = ChangeContext { member: n4.clone(), is_promote: true };
        assert_eq!(ChangeContext::from_json(context.to_json().as_bytes()), Ok(context));
        let attributes = n4.attributes();
        assert_eq!(Attributes::from_json(attributes.to_json().as_bytes()), Ok(attributes));
    }

    #[test]
    fn nulls_and_unknown_fields_are_read_as_in_go() {
        let json =
            br#"{"id":1,"peerURLs":null,"name":null,"clientURLs":null,"isLearner":null,"x":[{}]}"#;
        assert_eq!(Member::from_json(json), Ok(Member { id: NodeId(1), ..Member::default() }));
    }

    #[test]
    fn other_texts_are_refused() {
        for json in ["", "{", "[]", r#"{"id":-1}"#, r#"{"id":1.5}"#, r#"{"peerURLs":"x"}"#] {
            assert!(Member::from_json(json.as_bytes()).is_err(), "{json}");
        }
    }

    #[test]
    fn characters_that_go_escapes_are_escaped() {
        let odd = Member { name: "<a&b>\u{2028}\u{2029}\"é\u{1}".into(), ..Member::default() };
        let json = odd.attributes().to_json();
        assert_eq!(json, r#"{"name":"\u003ca\u0026b\u003e\u2028\u2029\"é\u0001"}"#);
        assert_eq!(Attributes::from_json(json.as_bytes()), Ok(odd.attributes()));
    }
}
