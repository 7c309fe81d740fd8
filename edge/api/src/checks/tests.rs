//! The checks against a table: `testdata/checks.txt`. Each case is a transaction in a small
//! language and etcd's result.

use super::*;
use proto::etcdserverpb::{Compare, RangeRequest};
use script::Case;

/// Reads `put a; keep a; lease a; del a c; get a; txn { … } { … }; cmp a; none` as operations.
struct Parser<'a> {
    words: Vec<&'a str>,
    at: usize,
}

impl<'a> Parser<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let word = self.words.get(self.at).copied();
        self.at += 1;
        word
    }

    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).copied()
    }

    fn key(&mut self) -> bytes::Bytes {
        match self.next().unwrap() {
            "-" => bytes::Bytes::new(),
            "inf" => bytes::Bytes::from_static(b"\0"),
            key => bytes::Bytes::copy_from_slice(key.as_bytes()),
        }
    }

    fn branch(&mut self) -> Vec<RequestOp> {
        assert_eq!(self.next(), Some("{"));
        let mut ops = Vec::new();
        loop {
            let request = match self.next().unwrap() {
                "}" => return ops,
                "put" => {
                    let key = self.key();
                    Some(Request::RequestPut(PutRequest { key, ..PutRequest::default() }))
                }
                "keep" => {
                    let put =
                        PutRequest { key: self.key(), ignore_value: true, ..Default::default() };
                    Some(Request::RequestPut(put))
                }
                "lease" => {
                    let put =
                        PutRequest { key: self.key(), ignore_lease: true, ..Default::default() };
                    Some(Request::RequestPut(put))
                }
                "del" => {
                    let (key, range_end) = (self.key(), self.key());
                    let delete = DeleteRangeRequest { key, range_end, prev_kv: false };
                    Some(Request::RequestDeleteRange(delete))
                }
                "get" => {
                    let key = self.key();
                    Some(Request::RequestRange(RangeRequest { key, ..RangeRequest::default() }))
                }
                "txn" => Some(Request::RequestTxn(self.txn())),
                "none" => None,
                word => panic!("{word} is no operation"),
            };
            let times = match self.peek() {
                Some(word) if word.starts_with('*') => {
                    self.at += 1;
                    word[1..].parse().unwrap()
                }
                _ => 1,
            };
            for _ in 0..times {
                ops.push(RequestOp { request: request.clone() });
            }
        }
    }

    fn txn(&mut self) -> TxnRequest {
        let mut compare = Vec::new();
        while self.peek() == Some("cmp") {
            self.at += 1;
            compare.push(Compare { key: self.key(), ..Compare::default() });
        }
        let success = self.branch();
        let failure = if self.peek() == Some("{") { self.branch() } else { Vec::new() };
        TxnRequest { compare, success, failure }
    }
}

fn number(case: &Case, name: &str, default: i64) -> i64 {
    case.value(name).unwrap_or(default)
}

fn said(result: Result<(), impl Into<Status>>) -> String {
    match result.map_err(Into::into) {
        Ok(()) => "ok\n".to_owned(),
        Err(status) => format!("{}: {}\n", rpc::status::code_name(status.code), status.message),
    }
}

fn bytes(case: &Case, name: &str) -> bytes::Bytes {
    case.value::<String>(name).unwrap_or_default().into()
}

fn range_request(case: &Case) -> RangeRequest {
    let narrow = |name: &str| i32::try_from(number(case, name, 0)).unwrap();
    RangeRequest {
        key: bytes(case, "key"),
        sort_order: narrow("order"),
        sort_target: narrow("target"),
        min_mod_revision: number(case, "min_mod", 0),
        max_create_revision: number(case, "max_create", 0),
        ..RangeRequest::default()
    }
}

fn run(case: &Case) -> String {
    match &case.command[..] {
        "txn" => {
            let words = case.input.split_whitespace().collect();
            let request = Parser { words, at: 0 }.txn();
            let ops_max = usize::try_from(number(case, "ops_max", 128)).unwrap();
            said(txn(&request, ops_max))
        }
        "put" => said(put(&PutRequest {
            key: bytes(case, "key"),
            value: bytes(case, "value"),
            lease: number(case, "lease", 0),
            ignore_value: case.has("ignore_value"),
            ignore_lease: case.has("ignore_lease"),
            prev_kv: false,
        })),
        "delete" => {
            said(delete(&DeleteRangeRequest { key: bytes(case, "key"), ..Default::default() }))
        }
        "range" => said(range(&range_request(case))),
        "range_stream" => said(range_stream(&range_request(case))),
        command => panic!("{command} is no command"),
    }
}

#[test]
fn requests_are_refused_as_etcd_refuses_them() {
    script::run("testdata/checks.txt", run);
}

#[test]
fn ada_etcd_22_an_unknown_sort_order_or_target_is_refused() {
    for number in [-1, 5, i32::MAX, i32::MIN] {
        let key = || "a".into();
        let order = RangeRequest { key: key(), sort_order: number, ..RangeRequest::default() };
        let target = RangeRequest { key: key(), sort_target: number, ..RangeRequest::default() };
        for request in [order, target] {
            assert_eq!(range(&request), Err(Error::InvalidSortOption), "{request:?}");
            let op = RequestOp { request: Some(Request::RequestRange(request)) };
            let request = TxnRequest { success: vec![op], ..TxnRequest::default() };
            assert_eq!(txn(&request, 128), Err(Error::InvalidSortOption), "{number} in a branch");
        }
    }
}

#[test]
fn v3_7_1_a_transaction_as_deep_as_the_limit_is_taken() {
    let deep = |levels: usize| {
        let mut request = TxnRequest::default();
        for _ in 0..levels {
            let op = RequestOp { request: Some(Request::RequestTxn(request)) };
            request = TxnRequest { success: vec![op], ..TxnRequest::default() };
        }
        request
    };
    assert_eq!(txn(&deep(128), 128), Ok(()));
    assert_eq!(txn(&deep(129), 128), Err(Error::TooManyOps));
}

#[test]
fn many_operations_are_checked_quickly() {
    // 20 nested transactions of 2,000 puts each: quadratic work would take seconds.
    let ops = |from: usize| -> Vec<RequestOp> {
        (from..from + 2_000)
            .map(|at| {
                let key = format!("{at:08}").into();
                let put = PutRequest { key, ..PutRequest::default() };
                RequestOp { request: Some(Request::RequestPut(put)) }
            })
            .collect()
    };
    let nested = (0..20)
        .map(|at| {
            let success = ops(at * 2_000);
            let txn = TxnRequest { success, ..TxnRequest::default() };
            RequestOp { request: Some(Request::RequestTxn(txn)) }
        })
        .collect();
    let request = TxnRequest { success: nested, ..TxnRequest::default() };
    assert_eq!(txn(&request, 10_000), Ok(()));
}
