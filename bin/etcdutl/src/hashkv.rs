//! `hashkv`: the hash of the key-value history in a database file. It equals the one that
//! `etcdctl endpoint hashkv` gets from a running server.
//!
//! Source: etcd v3.7.1 etcdutl/etcdutl/{hashkv_command,printer*}.go.

use crate::arguments::{format, one_argument};
use crate::database::{self, Access};
use crate::failure::{Code, CommandResult};
use crate::output;
use backend::ReadView;
use cli::json::Object;
use cli::{Format, Parsed, table};
use mvcc::{RevisionHash, Store};
use std::path::Path;

pub(crate) fn hashkv(parsed: &Parsed) -> CommandResult {
    let format = format(parsed)?;
    let path = one_argument(parsed)?;
    let path = Path::new(&path);
    database::must_exist(path)?;
    let db = database::open(path, Access::Read, parsed.flags.duration("timeout"))?;
    let failed = |error: mvcc::Error| Code::Error.with(error);
    let store = Store::restore(ReadView::of_file(db.view())).map_err(failed)?.store;
    let hash = store.view().hash_kv(parsed.flags.int("rev"));
    let hash = hash.map_err(|error| Code::Error.with(error))?.run().map_err(failed)?;
    output::out(&printed(&hash, format)?);
    Ok(())
}

fn printed(hash: &RevisionHash, format: Format) -> CommandResult<String> {
    let RevisionHash { hash, revision, compact_revision } = hash;
    let row = || vec![hash.to_string(), revision.to_string(), compact_revision.to_string()];
    Ok(match format {
        Format::Simple => row().join(", ") + "\n",
        Format::Fields => format!(
            "\"Hash\" : {hash}\n\"Hash revision\" : {revision}\n\"Compact revision\" : \
             {compact_revision}\n"
        ),
        Format::Json => {
            let object = Object::new()
                .plain("hash", hash)
                .plain("hashRevision", revision)
                .plain("compactRevision", compact_revision);
            object.done() + "\n"
        }
        Format::Table => table(&["hash", "hash revision", "compact revision"], &[row()]),
        Format::Protobuf => {
            return Err(Code::BadFeature.with("protobuf not supported as output format"));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_printed_as_go_does() {
        let hash = RevisionHash { hash: 2_872_259_930, revision: 5, compact_revision: -1 };
        let printed = |format| printed(&hash, format).unwrap();
        assert_eq!(printed(Format::Simple), "2872259930, 5, -1\n");
        assert_eq!(
            printed(Format::Fields),
            "\"Hash\" : 2872259930\n\"Hash revision\" : 5\n\"Compact revision\" : -1\n"
        );
        assert_eq!(
            printed(Format::Json),
            "{\"hash\":2872259930,\"hashRevision\":5,\"compactRevision\":-1}\n"
        );
        assert_eq!(
            printed(Format::Table),
            "┌────────────┬───────────────┬──────────────────┐\n\
             │    HASH    │ HASH REVISION │ COMPACT REVISION │\n\
             ├────────────┼───────────────┼──────────────────┤\n\
             │ 2872259930 │             5 │               -1 │\n\
             └────────────┴───────────────┴──────────────────┘\n"
        );
        assert_eq!(super::printed(&hash, Format::Protobuf).unwrap_err().code, Code::BadFeature);
    }
}
