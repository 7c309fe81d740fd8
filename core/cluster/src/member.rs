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
    /// Its name; empty until it has started and told.
    pub name: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has started and told.
    pub client_urls: Vec<String>,
    /// Whether it has no vote.
    pub is_learner: bool,
}

/// What a member tells of itself when it has started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Its name.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where clients reach it.
    #[serde(
        default,
        rename = "clientURLs",
        deserialize_with = "or_null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub client_urls: Vec<String>,
}

/// What a configuration change says of the member that it concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeContext {
    /// The member; for a promotion only its id.
    pub member: Member,
    /// Whether a learner becomes a voter.
    pub is_promote: bool,
}

/// Bytes that are not the JSON that they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadJson {
    /// What was being read.
    pub what: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for BadJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bad {}: {}", self.what, self.why)
    }
}

impl std::error::Error for BadJson {}

/// All names of all forms; the order is Go's.
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
    // serde would take an array of the fields for the struct, too.
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(BadJson { what, why: "not a JSON object".to_owned() });
    }
    serde_json::from_slice(json).map_err(|error| BadJson { what, why: error.to_string() })
}

/// Writes JSON as Go's encoding/json does, which escapes three more characters of ASCII and two
/// line separators. They occur inside strings only.
pub(crate) fn write(value: &impl Serialize) -> String {
    let json = serde_json::to_string(value);
    json.expect("structs of numbers, flags and strings are always written")
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
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
    /// Whether the member has ever started: only then has it told its name.
    #[must_use]
    pub fn is_started(&self) -> bool {
        !self.name.is_empty()
    }

    /// The member as it is stored and told to peers.
    #[must_use]
    pub fn to_json(&self) -> String {
        write(&Json::of(self))
    }

    /// Reads what [`to_json`](Self::to_json) writes; unknown names are ignored.
    ///
    /// # Errors
    /// When it is not that.
    pub fn from_json(json: &[u8]) -> Result<Member, BadJson> {
        read("member", json).map(Json::into_member)
    }

    /// The part that raft's side knows, as the v2 tree holds it.
    #[must_use]
    pub fn raft_attributes_json(&self) -> String {
        write(&Json { id: None, name: String::new(), client_urls: Vec::new(), ..Json::of(self) })
    }

    /// What the member told of itself.
    #[must_use]
    pub fn attributes(&self) -> Attributes {
        Attributes { name: self.name.clone(), client_urls: self.client_urls.clone() }
    }
}

impl Attributes {
    /// As the v2 tree holds them.
    #[must_use]
    pub fn to_json(&self) -> String {
        write(self)
    }

    /// Reads what [`to_json`](Self::to_json) writes; unknown names are ignored.
    ///
    /// # Errors
    /// When it is not that.
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

    /// Reads the context of a configuration change; unknown names are ignored.
    ///
    /// # Errors
    /// When it is not that.
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
    fn what_is_written_is_read_again() {
        let n4 = member();
        assert_eq!(Member::from_json(n4.to_json().as_bytes()), Ok(n4.clone()));
        let context = ChangeContext { member: n4.clone(), is_promote: true };
        assert_eq!(ChangeContext::from_json(context.to_json().as_bytes()), Ok(context));
        let attributes = n4.attributes();
        assert_eq!(Attributes::from_json(attributes.to_json().as_bytes()), Ok(attributes));
    }

    #[test]
    fn nulls_and_unknown_names_are_read_as_go_reads_them() {
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
    fn what_go_escapes_is_escaped() {
        let odd = Member { name: "<a&b>\u{2028}\u{2029}\"é\u{1}".into(), ..Member::default() };
        let json = odd.attributes().to_json();
        assert_eq!(json, r#"{"name":"\u003ca\u0026b\u003e\u2028\u2029\"é\u0001"}"#);
        assert_eq!(Attributes::from_json(json.as_bytes()), Ok(odd.attributes()));
    }
}
