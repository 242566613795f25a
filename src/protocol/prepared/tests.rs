#![allow(clippy::type_complexity, reason = "tables of cases")]

use super::*;

const PLAIN: Capabilities = Capabilities::NONE;
const ATTRIBUTES: Capabilities = Capabilities::QUERY_ATTRIBUTES;

/// One BIGINT parameter, 7, with its type.
const TYPED: &[u8] = b"\x17\x01\0\0\0\x00\x01\0\0\0\x00\x01\x08\x00\x07\0\0\0\0\0\0\0";
/// The same, executed again: no types.
const AGAIN: &[u8] = b"\x17\x01\0\0\0\x00\x01\0\0\0\x00\x00\x07\0\0\0\0\0\0\0";
/// With `QUERY_ATTRIBUTES`: a count, and names in the types. MySQL 9.7 takes both as they stand.
const NAMED: &[u8] = b"\x17\x01\0\0\0\x08\x01\0\0\0\x01\x00\x01\x08\x00\x00\x07\0\0\0\0\0\0\0";
const NAMED_AGAIN: &[u8] = b"\x17\x01\0\0\0\x08\x01\0\0\0\x01\x00\x00\x07\0\0\0\0\0\0\0";

fn rewritten(payload: &[u8], params: u16, caps: Capabilities, types: Option<&[u8]>) -> Result<Vec<u8>, ExecuteError> {
    let mut out = BytesMut::from(&b"before"[..]);
    let result = rewrite_execute(payload, 0x0403_0201, params, caps, types, &mut out);
    assert!(out.starts_with(b"before"));
    assert!(result.is_ok() || out.len() == 6, "an error leaves nothing behind");
    result.map(|_| out[6..].to_vec())
}

#[test]
fn answers_to_a_prepare() {
    let ok = PrepareOk { statement_id: 5, num_columns: 2, num_params: 1, warnings: 3, metadata_follows: true };
    for (bytes, caps, expected) in [
        (&b"\0\x05\0\0\0\x02\0\x01\0\0\x03\0"[..], PLAIN, ok),
        (b"\0\x05\0\0\0\x02\0\x01\0\0\x03\0\x01", Capabilities::OPTIONAL_RESULTSET_METADATA, ok),
        (
            b"\0\x05\0\0\0\x02\0\x01\0\0\x03\0\x00",
            Capabilities::OPTIONAL_RESULTSET_METADATA,
            PrepareOk { metadata_follows: false, ..ok },
        ),
    ] {
        assert_eq!(PrepareOk::parse(bytes), Some(expected));
        let mut out = BytesMut::new();
        expected.write(&mut out, caps);
        assert_eq!(out, bytes);
        assert!((0..12).all(|cut| PrepareOk::parse(&bytes[..cut]).is_none()));
    }
    assert_eq!(PrepareOk::parse(b"\xff\x05\0\0\0\x02\0\x01\0\0\x03\0"), None);
}

#[test]
fn headers_of_executions() {
    // payload, parameters of the statement, capabilities -> parameters sent, types, values from
    let table: &[(&str, &[u8], u16, Capabilities, Result<(usize, &[u8], usize), ExecuteError>)] = &[
        ("types", TYPED, 1, PLAIN, Ok((1, b"\x08\x00", 14))),
        ("no types", AGAIN, 1, PLAIN, Ok((1, b"", 12))),
        ("no parameters", b"\x17\x01\0\0\0\x01\x01\0\0\0", 0, PLAIN, Ok((0, b"", 10))),
        ("named", NAMED, 1, ATTRIBUTES, Ok((1, b"\x08\x00\x00", 16))),
        ("named, no types", NAMED_AGAIN, 1, ATTRIBUTES, Ok((1, b"", 13))),
        ("a count is there whatever the flag says", b"\x17\x01\0\0\0\x00\x01\0\0\0\x01\x00\x00x", 1, ATTRIBUTES, Ok((1, b"", 13))),
        ("no parameters, no flag, no count", b"\x17\x01\0\0\0\x00\x01\0\0\0", 0, ATTRIBUTES, Ok((0, b"", 10))),
        ("no parameters, count 0", b"\x17\x01\0\0\0\x08\x01\0\0\0\x00", 0, ATTRIBUTES, Ok((0, b"", 11))),
        (
            "an attribute on top",
            b"\x17\x01\0\0\0\x08\x01\0\0\0\x01\x00\x01\x08\x00\x03abc12345678",
            0,
            ATTRIBUTES,
            Ok((1, b"\x08\x00\x03abc", 19)),
        ),
        ("nine parameters: two bytes of bitmap", b"\x17\x01\0\0\0\0\x01\0\0\0\xff\x01\x00", 9, PLAIN, Ok((9, b"", 13))),
        ("types cut short", b"\x17\x01\0\0\0\0\x01\0\0\0\0\x01\x08", 1, PLAIN, Err(ExecuteError::Malformed)),
        ("no bitmap", b"\x17\x01\0\0\0\0\x01\0\0\0", 1, PLAIN, Err(ExecuteError::Malformed)),
        ("no count", b"\x17\x01\0\0\0\x08\x01\0\0\0", 0, ATTRIBUTES, Err(ExecuteError::Malformed)),
        (
            "a count beyond reason",
            b"\x17\x01\0\0\0\x08\x01\0\0\0\xfe\0\0\0\0\0\0\0\x01",
            0,
            ATTRIBUTES,
            Err(ExecuteError::Malformed),
        ),
        ("another command", b"\x16select 1", 0, PLAIN, Err(ExecuteError::Malformed)),
    ];
    for (what, payload, params, caps, expected) in table {
        let header = ExecuteHeader::parse(payload, *params, *caps);
        let got = header.as_ref().map(|h| (h.num_params, &payload[h.types.clone()], h.values_at)).map_err(|e| *e);
        assert_eq!(got, *expected, "{what}");
        if let Ok(header) = header {
            assert_eq!((header.statement_id, header.iterations), (1, 1));
        }
    }
}

#[test]
fn every_cut_is_an_error_or_an_execution_with_fewer_values() {
    for (payload, caps, values_at) in [(TYPED, PLAIN, 14), (NAMED, ATTRIBUTES, 16)] {
        for cut in 0..payload.len() {
            assert_eq!(ExecuteHeader::parse(&payload[..cut], 1, caps).is_ok(), cut >= values_at, "{cut}");
        }
    }
}

#[test]
fn executions_under_the_servers_id() {
    let with_id = |payload: &[u8]| [&payload[..1], b"\x01\x02\x03\x04", &payload[5..]].concat();
    let table: &[(&str, &[u8], u16, Capabilities, Option<&[u8]>, Result<Vec<u8>, ExecuteError>)] = &[
        ("types sent", TYPED, 1, PLAIN, None, Ok(with_id(TYPED))),
        ("types sent: what is remembered does not matter", TYPED, 1, PLAIN, Some(b"\xfd\x00"), Ok(with_id(TYPED))),
        ("types known to the server", AGAIN, 1, PLAIN, None, Ok(with_id(AGAIN))),
        ("types put in", AGAIN, 1, PLAIN, Some(b"\x08\x00"), Ok(with_id(TYPED))),
        ("types with names put in", NAMED_AGAIN, 1, ATTRIBUTES, Some(b"\x08\x00\x00"), Ok(with_id(NAMED))),
        ("types never sent", AGAIN, 1, PLAIN, Some(b""), Err(ExecuteError::TypesUnknown)),
        ("types of attributes too", NAMED_AGAIN, 1, ATTRIBUTES, Some(b"\x08\x00\x00\xfd\x00\x01a"), Ok(with_id(NAMED))),
        ("types of one", TWO_AGAIN, 2, PLAIN, Some(b"\x08\x00"), Err(ExecuteError::TypesDiffer { now: 2, remembered: 1 })),
        ("damaged types", AGAIN, 1, PLAIN, Some(b"\x08"), Err(ExecuteError::Malformed)),
    ];
    for (what, payload, params, caps, types, expected) in table {
        assert_eq!(rewritten(payload, *params, *caps, *types), *expected, "{what}");
    }
}

#[test]
fn remembered_types_are_those_that_were_sent() {
    for (sent, again, caps) in [(TYPED, AGAIN, PLAIN), (NAMED, NAMED_AGAIN, ATTRIBUTES)] {
        let header = ExecuteHeader::parse(sent, 1, caps).unwrap();
        let types = types_of(sent, &header);
        assert_eq!(rewritten(again, 1, caps, types), rewritten(sent, 1, caps, None));
        let header = ExecuteHeader::parse(again, 1, caps).unwrap();
        assert_eq!(types_of(again, &header), None);
    }
}

/// Two parameters, no types sent.
const TWO_AGAIN: &[u8] = b"\x17\x01\0\0\0\0\x01\0\0\0\0\0abcdefgh";

#[test]
fn bulk_executions_under_the_servers_id() {
    // One parameter of type LONG; each row is an indicator and the value.
    const TYPED: &[u8] = b"\xfa\x01\0\0\0\x80\0\x03\0\0\x01\0\0\0\0\x02\0\0\0";
    const AGAIN: &[u8] = b"\xfa\x01\0\0\0\0\0\0\x01\0\0\0\0\x02\0\0\0";
    let bulk = |payload: &[u8], types: Option<&[u8]>| {
        let mut out = BytesMut::new();
        rewrite_bulk(payload, 0x0403_0201, 1, types, &mut out).map(|()| out.to_vec())
    };
    let with_id = [&TYPED[..1], b"\x01\x02\x03\x04", &TYPED[5..]].concat();
    assert_eq!(bulk(TYPED, None), Ok(with_id.clone()));
    assert_eq!(bulk(AGAIN, Some(b"\x03\0")), Ok(with_id), "types put in, and the flag that says so");
    assert_eq!(bulk(AGAIN, Some(b"")), Err(ExecuteError::TypesUnknown));
    assert_eq!(bulk_types(TYPED, 1), Ok(Some(&b"\x03\0"[..])));
    assert_eq!(bulk_types(AGAIN, 1), Ok(None));
    for cut in 0..9 {
        assert_eq!(bulk_types(&TYPED[..cut], 1), Err(ExecuteError::Malformed), "{cut}");
    }
}

#[test]
fn statement_ids() {
    let mut close = *b"\x19\x01\0\0\0";
    assert_eq!(statement_id(&close), Some(1));
    assert!(set_statement_id(&mut close, 0x0102));
    assert_eq!(&close, b"\x19\x02\x01\0\0");
    assert!(!set_statement_id(&mut [0x19, 1, 0, 0], 5));
    assert_eq!(statement_id(&[0x19, 1, 0, 0]), None);
}

#[test]
fn attributes_of_an_execution() {
    let caps = Capabilities::QUERY_ATTRIBUTES;
    let types = b"\x03\0\0\xfe\0\x01a\xfe\0\x01b";
    let head = b"\x17\x05\0\0\0\x08\x01\0\0\0";
    let values = b"\x07\0\0\0\x03one\x03two";
    let with = [&head[..], b"\x03\0\x01", types, values].concat();
    let without = [&head[..], b"\x03\0\0", values].concat();
    // The first attribute is NULL, and the second one stands where it would have stood.
    let null = [&head[..], b"\x03\x02\x01", types, b"\x07\0\0\0\x03two"].concat();
    let short = &with[..with.len() - 2];
    for (payload, own, remembered, name, expected) in [
        (&with[..], 1, &b""[..], "a", Some(&b"one"[..])),
        (&with, 1, b"", "b", Some(b"two")),
        (&with, 1, b"", "c", None),
        (&with, 1, b"", "", None),
        // A parameter of the statement's own is none, whatever it is called.
        (&with, 2, b"", "a", None),
        (&without, 1, types, "b", Some(b"two")),
        (&without, 1, b"", "b", None),
        (&null, 1, b"", "a", None),
        (&null, 1, b"", "b", Some(b"two")),
        (short, 1, b"", "b", None),
    ] {
        let header = ExecuteHeader::parse(payload, own, caps).unwrap();
        assert_eq!(attribute(payload, &header, own, remembered, name), expected, "{name} of {payload:?}");
    }
}
