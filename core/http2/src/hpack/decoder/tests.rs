//! The examples of RFC 7541, refused blocks, and kept heads.

use super::*;
use crate::hpack::Encoder;

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn fields(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, BadBlock> {
    let mut fields = Vec::new();
    decoder.decode(block, &mut |field| fields.push(format!("{field:?}")))?;
    Ok(fields)
}

/// RFC 7541 C.3 and C.4: three requests on one connection, without and with Huffman's code.
#[test]
fn requests_of_rfc_7541_are_decoded() {
    for blocks in [
        [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ],
        [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ],
    ] {
        let mut decoder = Decoder::new();
        let mut next = |block: &str| fields(&mut decoder, &hex(block)).unwrap();
        let start = [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"];
        assert_eq!(next(blocks[0]), start);
        assert_eq!(next(blocks[1]), [&start[..], &["cache-control: no-cache"]].concat());
        let third = [
            ":method: GET",
            ":scheme: https",
            ":path: /index.html",
            ":authority: www.example.com",
            "custom-key: custom-value",
        ];
        assert_eq!(next(blocks[2]), third);
    }
}

/// RFC 7541 C.5: a table of 256 bytes evicts its oldest entries.
#[test]
fn a_small_table_evicts_the_oldest() {
    let mut decoder = Decoder::new();
    let first = "3f e101 4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 \
                 3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 \
                 7861 6d70 6c65 2e63 6f6d";
    assert_eq!(fields(&mut decoder, &hex(first)).unwrap().len(), 4);
    let second = fields(&mut decoder, &hex("4803 3330 37c1 c0bf")).unwrap();
    assert_eq!(second[..2], [":status: 307", "cache-control: private"]);
    // The entry of ":status: 302" is evicted, so index 66 is invalid.
    assert_eq!(fields(&mut decoder, &hex("c2")), Err(BadBlock));
}

#[test]
fn blocks_that_are_not_hpack_are_refused() {
    for (why, block) in [
        ("index 0", "80"),
        ("an index beyond the table", "be"),
        ("a name beyond the table", "7e 0161"),
        ("a string that is cut", "0001 6105 61"),
        ("an integer without end", "ff ffff ffff ffff"),
        ("a table size above the setting", "3f e2ff 03"),
        ("a table size behind a field", "82 20"),
        ("a wrong Huffman padding", "0001 6181 06"),
        ("the end symbol in a string", "0001 6184 ffff ffff"),
    ] {
        assert_eq!(fields(&mut Decoder::new(), &hex(block)), Err(BadBlock), "{why}");
    }
    assert_eq!(fields(&mut Decoder::new(), &hex("20 3fe11f 82")).unwrap().len(), 1);
}

#[test]
fn a_repeated_block_gives_the_same_head_until_the_table_changes() {
    let mut decoder = Decoder::new();
    let mut ask = |block: &str| decoder.request(&hex(block), 10_000).unwrap().unwrap();
    let first = ask("8386 4401 2f41 0178 7a01 61");
    let second = ask("8386 c0bf be");
    let third = ask("8386 c0bf be");
    assert!(!Rc::ptr_eq(&first, &second));
    assert!(Rc::ptr_eq(&second, &third));
    assert_eq!(third.get(":authority"), Some(&b"x"[..]));
    // A new entry shifts the indexes, so the same bytes now mean other fields.
    ask("8386 c0bf 4001 6201 63");
    let moved = decoder.request(&hex("8386 c0bf be"), 10_000).unwrap();
    assert_eq!(moved.err(), Some(HeadFault::Malformed));
}

#[test]
fn what_the_encoder_writes_is_decoded_as_the_clients_table_changes() {
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::new());
    let mut next = |encoder: &mut Encoder, is_head: bool| {
        let mut out = Vec::new();
        if is_head {
            encoder.grpc_head(&mut out)
        } else {
            encoder.grpc_success(&mut out)
        }
        (fields(&mut decoder, &out).unwrap(), out.len())
    };
    let head = vec![":status: 200".to_owned(), "content-type: application/grpc".to_owned()];
    let end = vec!["grpc-status: 0".to_owned()];
    for size in [4_096, 100, 0, 1 << 20] {
        encoder.resize(size);
        for round in 0..3 {
            assert_eq!(next(&mut encoder, true).0, head);
            let (fields, len) = next(&mut encoder, false);
            assert_eq!(fields, end);
            assert_eq!(len == 1, size >= 4_096 && round > 0, "{size} {round} {len}");
        }
    }
}
