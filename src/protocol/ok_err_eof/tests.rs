#![allow(clippy::type_complexity, reason = "tables of cases")]

use super::*;

const TRACK: Capabilities = Capabilities::SESSION_TRACK;
const PLAIN: Capabilities = Capabilities::NONE;

/// An UPDATE's OK as MySQL 9.7 and MariaDB 10.11 send it, alike with and without `SESSION_TRACK`.
const UPDATE: &[u8] = b"\x00\x03\x00\x22\x00\x00\x00\x28Rows matched: 3  Changed: 3  Warnings: 0";
/// `USE test` with `SESSION_TRACK`, from both.
const USE: &[u8] = b"\x00\x00\x00\x02\x40\x00\x00\x00\x07\x01\x05\x04test";

fn written(write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut out);
    out.to_vec()
}

#[test]
fn ok_packets_of_servers() {
    let info = b"Rows matched: 3  Changed: 3  Warnings: 0";
    let update = OkPacket { affected_rows: 3, status: Status::AUTOCOMMIT | Status::NO_INDEX_USED, info, ..OkPacket::default() };
    let used = OkPacket {
        status: Status::AUTOCOMMIT | Status::SESSION_STATE_CHANGED,
        session_state: b"\x01\x05\x04test",
        ..OkPacket::default()
    };
    let minimal = OkPacket { status: Status::AUTOCOMMIT, ..OkPacket::default() };
    for (bytes, caps, ok) in [
        (UPDATE, TRACK, update),
        (UPDATE, PLAIN, update),
        (USE, TRACK, used),
        (b"\x00\x00\x00\x02\x00\x00\x00", TRACK, minimal),
        (b"\xfe\x00\x00\x02\x00\x00\x00", PLAIN, minimal),
    ] {
        assert_eq!(OkPacket::parse(bytes, caps), Some(ok));
        assert_eq!(written(|out| ok.write(out, caps, bytes[0])), bytes);
    }
    let by_the_manual = b"\x00\x03\x00\x22\x00\x00\x00Rows matched: 3  Changed: 3  Warnings: 0";
    assert_eq!(OkPacket::parse(by_the_manual, PLAIN), Some(update), "string<EOF>");
}

#[test]
fn ok_packets_cut_short() {
    for whole in [UPDATE, USE] {
        for cut in 0..whole.len() {
            // After the warnings both strings may be missing, and an info of no length may be followed by nothing.
            let parses = cut == 7 || (whole == USE && cut == 8);
            assert_eq!(OkPacket::parse(&whole[..cut], TRACK).is_some(), parses, "{cut}");
        }
    }
    assert_eq!(OkPacket::parse(b"\xff\x00\x00\x02\x00\x00\x00", TRACK), None);
}

#[test]
fn ok_rewritten_between_capabilities() {
    for (what, bytes, from, to, expected) in [
        ("state is dropped", USE, TRACK, PLAIN, &b"\x00\x00\x00\x02\x00\x00\x00"[..]),
        ("same capabilities: same bytes", USE, TRACK, TRACK, USE),
        ("nothing to drop", UPDATE, TRACK, PLAIN, UPDATE),
        ("nothing to add", UPDATE, PLAIN, TRACK, UPDATE),
        (
            "the manual's info gets its length",
            b"\x00\x03\x00\x22\x00\x00\x00Rows matched: 3  Changed: 3  Warnings: 0",
            PLAIN,
            TRACK,
            UPDATE,
        ),
        (
            "the end of rows",
            b"\xfe\x00\x00\x21\xc0\x00\x00\x00\x0b\x05\x09\x08I_R_WsS_",
            TRACK,
            PLAIN,
            b"\xfe\x00\x00\x21\x80\x00\x00",
        ),
    ] {
        let mut out = BytesMut::new();
        assert!(rewrite_ok(bytes, from, to, &mut out), "{what}");
        assert_eq!(out, expected, "{what}");
    }
    let mut out = BytesMut::new();
    assert!(!rewrite_ok(b"\xff\x15\x04", TRACK, PLAIN, &mut out) && out.is_empty());
}

#[test]
fn eof_packets() {
    let eof = EofPacket { warnings: 3, status: Status::MORE_RESULTS | Status::AUTOCOMMIT };
    assert_eq!(written(|out| eof.write(out)), b"\xfe\x03\x00\x0a\x00");
    assert_eq!(EofPacket::parse(b"\xfe\x03\x00\x0a\x00"), Some(eof));
    assert_eq!(EofPacket::parse(b"\xfe\x03\x00\x0a"), None);
    assert_eq!(EofPacket::parse(b"\x00\x03\x00\x0a\x00"), None);
    let end = |caps| written(|out| write_end_of_rows(out, caps, Status::AUTOCOMMIT, 1));
    assert_eq!(end(Capabilities::DEPRECATE_EOF), b"\xfe\x00\x00\x02\x00\x01\x00");
    assert_eq!(end(PLAIN), b"\xfe\x01\x00\x02\x00");
}

#[test]
fn err_packets() {
    let table: &[(&[u8], u16, Option<&[u8; 5]>, &[u8])] = &[
        (b"\xff\x6c\x06#45000oops", 1644, Some(b"45000"), b"oops"),
        (b"\xff\x10\x04Too many connections", 1040, None, b"Too many connections"),
        (b"\xff\x10\x04#08", 1040, None, b"#08"),
        (b"\xff\x10\x04", 1040, None, b""),
    ];
    for (bytes, errno, sqlstate, message) in table {
        let err = ErrPacket::parse(bytes).unwrap();
        assert_eq!(err, ErrPacket { errno: *errno, sqlstate: sqlstate.copied(), message });
    }
    assert_eq!(ErrPacket::parse(b"\xff\x10"), None);
    assert_eq!(ErrPacket::parse(b"\x00\x10\x04"), None);
    assert_eq!(written(|out| ErrPacket::write(out, 1644, *b"45000", b"oops")), b"\xff\x6c\x06#45000oops");
}

#[test]
fn progress_reports() {
    let report = ProgressReport { stage: 1, stages: 2, progress: 24_310, state: b"copy to tmp table" };
    let bytes = written(|out| report.write(out));
    assert_eq!(bytes, b"\xff\xff\xff\x01\x01\x02\xf6\x5e\x00\x11copy to tmp table");
    assert_eq!(ProgressReport::parse(&bytes), Some(report));
    assert!(ErrPacket::parse(&bytes).unwrap().is_progress());
    assert_eq!(ProgressReport::parse(b"\xff\x15\x04#28000no"), None);
}

#[test]
fn a_farewell_is_numbered_as_no_answer() {
    let packet = |seq: u8, errno: u16| [&[3, 0, 0, seq, 0xff][..], &errno.to_le_bytes()].concat();
    assert!(ErrPacket::is_farewell(&packet(0, 4031)));
    assert!(!ErrPacket::is_farewell(&packet(1, 4031)), "a statement may signal what it likes");
    assert!(!ErrPacket::is_farewell(&packet(0, 1053)));
    assert!(!ErrPacket::is_farewell(&[7, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]) && !ErrPacket::is_farewell(&[]));
}
