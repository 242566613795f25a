use super::*;
use crate::protocol::fuzz::Story;
use crate::protocol::ok_err_eof::ErrPacket;
use crate::protocol::reply::Expect;

/// Every set of capabilities that changes how a result set is written.
fn capabilities() -> impl Iterator<Item = Capabilities> {
    let bits = [
        Capabilities::DEPRECATE_EOF,
        Capabilities::SESSION_TRACK,
        Capabilities::OPTIONAL_RESULTSET_METADATA,
        Capabilities::MARIADB_CACHE_METADATA,
        Capabilities::MARIADB_EXTENDED_METADATA,
    ];
    (0..1u32 << bits.len()).map(move |n| {
        bits.iter().enumerate().filter(|(i, _)| n & (1 << i) != 0).fold(Capabilities::NONE, |caps, (_, bit)| caps | *bit)
    })
}

fn written(caps: Capabilities) -> BytesMut {
    let mut out = BytesMut::new();
    let columns = [ColumnDefinition::text("name"), ColumnDefinition::text("lag_ms")];
    let mut set = ResultSetWriter::new(&mut out, 1, caps, Status::AUTOCOMMIT, &columns);
    set.row([Some(&b"db1"[..]), Some(b"12")]);
    set.row([Some(&b"db2"[..]), None]);
    set.row([Some(&b""[..])]);
    let last = set.finish(Status::AUTOCOMMIT, 0);
    assert_eq!(last, if caps.has(Capabilities::DEPRECATE_EOF) { 8 } else { 9 });
    out
}

#[test]
fn what_is_written_can_be_walked_and_decoded() {
    for caps in capabilities() {
        let wire = written(caps);
        let story = Story::of(Expect::Query, caps, &wire, wire.len());
        assert_eq!((story.rows, story.done, story.error), (3, true, None), "{caps:?}");
        let (answer, len) = decode(&wire, caps, MAX_DECODED_BYTES).unwrap();
        assert_eq!(len, wire.len());
        let Answer::Rows(set) = answer else { panic!("{answer:?}") };
        assert_eq!(set.columns, ["name", "lag_ms"]);
        assert_eq!(set.status, Status::AUTOCOMMIT);
        let text = |row, name| set.text(row, name);
        assert_eq!((text(0, "NAME"), text(0, "lag_ms")), (Some("db1"), Some("12")));
        assert_eq!((text(1, "name"), text(1, "lag_ms")), (Some("db2"), None));
        assert_eq!((text(2, "name"), text(2, "lag_ms"), text(3, "name")), (Some(""), None, None));
        for cut in 0..wire.len() {
            assert_eq!(decode(&wire[..cut], caps, MAX_DECODED_BYTES), Err(DecodeError::Incomplete));
        }
    }
}

#[test]
fn a_definition_as_mysql_writes_it() {
    let id = ColumnDefinition {
        schema: b"test",
        table: b"t",
        org_table: b"t",
        name: b"id",
        org_name: b"id",
        charset: BINARY,
        length: 11,
        kind: 3,
        flags: 0x4203,
        decimals: 0,
    };
    let mut out = BytesMut::new();
    id.write(&mut out, Capabilities::NONE);
    assert_eq!(out, &b"\x03def\x04test\x01t\x01t\x02id\x02id\x0c?\x00\x0b\x00\x00\x00\x03\x03B\x00\x00\x00"[..]);
}

#[test]
fn other_answers() {
    let caps = Capabilities::SESSION_TRACK;
    let (ok, _) = decode(b"\x10\0\0\x01\0\0\0\x02\x40\0\0\0\x07\x01\x05\x04test", caps, 100).unwrap();
    assert_eq!(ok, Answer::Ok { status: Status(0x4002), affected_rows: 0, session_state: b"\x01\x05\x04test".to_vec() });
    let mut wire = BytesMut::new();
    put_packet_with(&mut wire, 1, |out| ErrPacket::write(out, 1146, *b"42S02", b"no table \xff"));
    let (err, _) = decode(&wire, caps, 100).unwrap();
    assert_eq!(err, Answer::Err { errno: 1146, sqlstate: Some(*b"42S02"), message: "no table \u{fffd}".into() });
}

#[test]
fn what_is_refused() {
    let caps = Capabilities::NONE;
    let wire = written(caps);
    let payload_bytes = wire.len() - 4 * 8;
    assert!(decode(&wire, caps, payload_bytes).is_ok());
    assert_eq!(decode(&wire, caps, payload_bytes - 1), Err(DecodeError::TooLarge { limit: payload_bytes - 1 }));
    for (wire, error) in [
        (&b"\x00\0\0\x01"[..], DecodeError::Malformed("empty packet")),
        (b"\x01\0\0\x01\xfb", DecodeError::Malformed("column count")),
        (b"\x02\0\0\x01\x01\x00", DecodeError::Malformed("result set without metadata")),
        (b"\x01\0\0\x01\x01\x03\0\0\x02\x03de", DecodeError::Malformed("column definition")),
        (b"\x01\0\0\x01\x00", DecodeError::Malformed("OK packet")),
    ] {
        assert_eq!(decode(wire, caps, 1000), Err(error));
    }
    let mut decoder = TextDecoder::new(caps, 1000);
    assert!(decoder.packet(b"\x00\0\0\x02\0\0\0").unwrap().is_some());
    assert_eq!(decoder.packet(b"\x00\0\0\x02\0\0\0"), Err(DecodeError::Malformed("packet behind the end of an answer")));
}
