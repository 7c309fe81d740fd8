//! The printers against the output of etcdctl 3.7.1 for the same responses. Each case of
//! `testdata/` has the bytes of the response and the output.

use super::*;
use crate::failure::Failure;
use bytes::Bytes;
use script::Case;

fn printer(case: &Case) -> Printer {
    let format = case.args[0].key.as_str();
    Printer { format: Format::parse(format).unwrap(), hex: has(case, "hex"), value_only: false }
}

fn has(case: &Case, name: &str) -> bool {
    case.args.iter().any(|arg| arg.key == name)
}

fn value(case: &Case, name: &str) -> String {
    let arg = case.args.iter().find(|arg| arg.key == name).unwrap();
    arg.values[0].clone()
}

fn answer<T: Message + Default>(case: &Case) -> T {
    let digits = case.input.trim().as_bytes();
    let byte = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap();
    let bytes: Bytes = digits.chunks(2).map(byte).collect();
    T::decode(bytes).unwrap()
}

/// Prints a case. A case of `watch` may have several responses, one after the other in its bytes.
/// They are decoded as one message, which has all events and the last header.
fn print(case: &Case) -> Printed {
    let printer = printer(case);
    match case.command.as_str() {
        "range" => printer.range(&answer(case)),
        "put" => printer.put(&answer(case)),
        "delete" => printer.delete(&answer(case)),
        "txn" => printer.txn(&answer(case)),
        "watch" => printer.watch(&answer(case)),
        "alarm" => printer.alarm(&answer(case)),
        "member_list" => printer.member_list(&answer(case)),
        "member_add" => printer.member_add(&answer(case)),
        "lease_grant" => printer.lease_grant(&answer(case)),
        "lease_revoke" => printer.lease_revoke(value(case, "id").parse().unwrap(), &answer(case)),
        "keep_alive" => printer.keep_alive(&answer(case)),
        "time_to_live" => printer.time_to_live(&answer(case), has(case, "keys")),
        "leases" => printer.leases(&answer(case)),
        "status" => {
            printer.status(&[Status { endpoint: value(case, "endpoint"), answer: answer(case) }])
        }
        "hash" => printer.hash(&[Hash { endpoint: value(case, "endpoint"), answer: answer(case) }]),
        "health" => {
            let alarm = has(case, "alarm");
            let error = if alarm { "Active Alarm(s): NOSPACE " } else { "" }.to_string();
            let (endpoint, took) = (value(case, "endpoint"), value(case, "took"));
            printer.health(&[Health { endpoint, took, health: !alarm, error }])
        }
        unknown => panic!("unknown command {unknown}"),
    }
}

#[test]
fn answers_are_printed_as_by_etcdctl_3_7_1() {
    for path in script::scripts(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata")) {
        script::run(path, |case| match print(case) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(Failure { message, .. }) => format!("Error: {}\n", message.unwrap()),
        });
    }
}

#[test]
fn formats_say_what_they_cannot_print() {
    let table = Printer { format: Format::Table, hex: false, value_only: false };
    let error = table.put(&pb::PutResponse::default()).unwrap_err();
    assert_eq!(error, Code::BadFeature.with("table not supported as output format"));
    let protobuf = Printer { format: Format::Protobuf, ..table };
    assert!(protobuf.status(&[]).is_err() && protobuf.hash(&[]).is_err());
}

#[test]
fn an_unknown_type_of_alarm_is_printed_as_its_number() {
    let alarms = vec![pb::AlarmMember { member_id: 1, alarm: 7 }];
    let answer = pb::AlarmResponse { header: None, alarms };
    assert_eq!(simple::alarm(&answer), b"memberID:1 alarm:7\n");
    let printer = Printer { format: Format::Fields, hex: false, value_only: false };
    let fields = String::from_utf8(fields::alarm(printer, &answer)).unwrap();
    assert!(fields.contains("\"AlarmType\" : 7\n"), "{fields}");
}
