use proptest::prelude::*;

use super::*;
use crate::protocol::Capabilities;
use crate::protocol::frame::{HEADER_LEN, MAX_PAYLOAD, put_packet};
use crate::protocol::fuzz::{CAPABILITY_BITS, EXPECTATIONS, Story, run_corpus};
use crate::protocol::ok_err_eof::{EofPacket, OkPacket, ProgressReport, Status, write_end_of_rows};
use crate::protocol::prepared::PrepareOk;
use crate::protocol::primitives::Put;
use bytes::BytesMut;

use Capabilities as C;
use PacketKind::*;

/// Writes replies as the manual describes them, and what a tracker has to make of them.
#[derive(Clone)]
struct Script {
    caps: Capabilities,
    wire: BytesMut,
    seq: u8,
    kinds: Vec<PacketKind>,
    rows: u64,
}

impl Script {
    fn new(caps: Capabilities) -> Script {
        Script { caps, wire: BytesMut::new(), seq: 1, kinds: Vec::new(), rows: 0 }
    }

    fn has(&self, caps: Capabilities) -> bool {
        self.caps.has(caps)
    }

    fn packet(&mut self, payload: &[u8]) {
        self.seq = put_packet(&mut self.wire, self.seq, payload);
    }

    fn control(&mut self, kind: PacketKind, payload: &[u8]) {
        self.kinds.push(kind);
        self.packet(payload);
    }

    fn payload(write: impl FnOnce(&mut BytesMut)) -> BytesMut {
        let mut out = BytesMut::new();
        write(&mut out);
        out
    }

    fn progress(&mut self) {
        if self.has(C::MARIADB_PROGRESS) {
            let report = ProgressReport { stage: 1, stages: 2, progress: 500, state: b"copying" };
            let payload = Script::payload(|out| report.write(out));
            self.control(Progress, &payload);
        }
    }

    fn ok(&mut self, status: Status) {
        self.progress();
        let ok = OkPacket {
            affected_rows: 300,
            last_insert_id: 70_000,
            status,
            info: b"info",
            session_state: b"\x01\x02\x01x",
            warnings: 1,
        };
        let payload = Script::payload(|out| ok.write(out, self.caps, 0));
        self.control(Ok, &payload);
    }

    fn err(&mut self) {
        self.progress();
        self.control(Err, b"\xff\x28\x04#42000You have an error");
    }

    fn eof(&mut self, status: Status, silent: bool) {
        if self.has(C::DEPRECATE_EOF) {
            return;
        }
        let payload = Script::payload(|out| EofPacket { warnings: 0, status }.write(out));
        if silent { self.packet(&payload) } else { self.control(Eof, &payload) }
    }

    fn end(&mut self, status: Status) {
        self.progress();
        let payload = Script::payload(|out| write_end_of_rows(out, self.caps, status, 2));
        self.control(if self.has(C::DEPRECATE_EOF) { Ok } else { Eof }, &payload);
    }

    fn definitions(&mut self, n: u64) {
        for _ in 0..n {
            self.packet(b"\x03def\0\0\0\x01x\0\x0c\x3f\0\x0b\0\0\0\x03\0\0\0\0\0");
        }
    }

    /// Column count, definitions unless they are left out, and what stands before the rows.
    fn columns(&mut self, n: u64, status: Status, left_out: bool, silent: bool) {
        let tells = self.has(C::OPTIONAL_RESULTSET_METADATA) || self.has(C::MARIADB_CACHE_METADATA);
        let payload = Script::payload(|out| {
            out.put_lenenc_int(n);
            if tells {
                out.extend_from_slice(&[u8::from(!left_out)]);
            }
        });
        self.packet(&payload);
        if !(tells && left_out) {
            self.definitions(n);
        }
        self.eof(status, silent);
    }

    fn row(&mut self, payload: &[u8]) {
        self.rows += 1;
        self.packet(payload);
    }

    /// Rows that begin with every byte a row can begin with.
    fn rows(&mut self) {
        for payload in
            [&b"\x00\x00\x01\0\0\0"[..], b"\x00", b"\xfb", b"\x01a\xfb", b"\xfc\x05\0aaaaa", b"\xfd\x05\0\0aaaaa", b"\xfa"]
        {
            self.row(payload);
        }
    }

    fn check(&self, expect: Expect, what: &str) {
        let wire = self.wire.to_vec();
        let what = format!("{what} of {expect:?} with {:?}", self.caps);
        let whole = Story::of(expect, self.caps, &wire, wire.len());
        assert_eq!(whole.error, None, "{what}");
        assert_eq!(whole.packets.iter().map(|(kind, ..)| *kind).collect::<Vec<_>>(), self.kinds, "{what}");
        let last = whole.packets.len().saturating_sub(1);
        assert!(whole.packets.iter().enumerate().all(|(n, (.., done))| !*done || n == last), "{what}: only the last is done");
        assert_eq!((whole.rows, whole.done), (self.rows, true), "{what}");
        assert!(whole.forwarded == wire, "{what}");
        // Every cut of what is short; of long replies, which repeat themselves, some hundred.
        for cut in (1..wire.len()).step_by(wire.len() / 120 + 1) {
            Story::cut_at(expect, self.caps, [&wire[..cut], &wire[cut..]]).assert_same(&whole);
        }
        Story::of(expect, self.caps, &wire, 1).assert_same(&whole);
        let followed = [&wire[..], b"\x01\0\0\x01\x01"].concat();
        Story::of(expect, self.caps, &followed, followed.len()).assert_same(&whole);
    }
}

fn walk(tracker: &mut ReplyTracker, bytes: &[u8]) -> Result<Walk, ReplyError> {
    tracker.walk(&mut bytes.to_vec())
}

fn capabilities() -> impl Iterator<Item = Capabilities> {
    (0..1u32 << CAPABILITY_BITS.len())
        .map(|n| CAPABILITY_BITS.iter().enumerate().filter(|(i, _)| n & (1 << i) != 0).fold(C::NONE, |caps, (_, bit)| caps | *bit))
        // One is MySQL's, the other MariaDB's.
        .filter(|caps| !caps.has(C::OPTIONAL_RESULTSET_METADATA | C::MARIADB_CACHE_METADATA))
}

const KINDS_OF_RESULT: u32 = 7;

/// One result of a query; `more` says that another follows. `false` when this kind ends the reply whatever its flags say.
fn result(s: &mut Script, kind: u32, more: Status) -> bool {
    match kind {
        0 => s.ok(more),
        1 => {
            s.err();
            return false;
        }
        2 => {
            s.columns(2, more, false, true);
            s.rows();
            s.end(more);
        }
        3 => {
            s.columns(251, Status::NONE, true, true);
            s.end(more);
        }
        4 => {
            s.columns(1, more, false, true);
            s.rows();
            s.err();
            return false;
        }
        5 => {
            s.control(LocalInfile, b"\xfb/tmp/x");
            s.seq = s.seq.wrapping_add(3);
            s.ok(more);
        }
        _ => {
            s.control(LocalInfile, b"\xfb/tmp/x");
            s.seq = s.seq.wrapping_add(1);
            s.err();
            return false;
        }
    }
    true
}

#[test]
fn every_reply_to_a_query_and_an_execution() {
    for caps in capabilities() {
        for expect in [Expect::Query, Expect::Execute] {
            for before in 0..=2 {
                for kind in 0..KINDS_OF_RESULT {
                    let mut s = Script::new(caps);
                    for n in 0..before {
                        result(&mut s, 2 * n, Status::MORE_RESULTS);
                    }
                    result(&mut s, kind, Status::AUTOCOMMIT);
                    s.check(expect, &format!("kind {kind} after {before} others"));
                }
            }
        }
    }
}

#[test]
fn cursors() {
    for caps in capabilities() {
        for left_out in [false, true] {
            let mut s = Script::new(caps);
            s.columns(2, Status::CURSOR_EXISTS, left_out, false);
            if caps.has(C::DEPRECATE_EOF) {
                s.end(Status::CURSOR_EXISTS);
            }
            s.check(Expect::Execute, "cursor");
        }
        for (what, rows, status) in [("rows", true, Status::CURSOR_EXISTS), ("no row", false, Status::LAST_ROW_SENT)] {
            let mut s = Script::new(caps);
            if rows {
                s.rows();
            }
            // Flags that mean nothing here must not make the tracker wait.
            s.end(status | Status::MORE_RESULTS);
            s.check(Expect::Fetch, what);
        }
        let mut s = Script::new(caps);
        s.rows();
        s.err();
        s.check(Expect::Fetch, "error between rows");
        // MySQL 9.7: a procedure that had a cursor for itself leaves the flag set in its results, whose rows come.
        let mut s = Script::new(caps);
        let had = Status::CURSOR_EXISTS | Status::MORE_RESULTS;
        s.columns(1, had, false, true);
        s.row(b"\x00\x00\x02\0\0\0");
        s.end(had);
        s.ok(Status::CURSOR_EXISTS);
        s.check(Expect::Execute, "a procedure with a cursor of its own");
    }
}

/// MySQL 9.7 without `DEPRECATE_EOF` sets MORE_RESULTS on OUT parameters only in the EOF before their row; a tracker that believes the EOF
/// behind it hands the connection back with an OK still to come, and the next command gets the wrong answer.
#[test]
fn out_parameters_are_followed_by_an_ok_though_their_last_eof_denies_it() {
    let out = Status::PS_OUT_PARAMS | Status::MORE_RESULTS;
    for caps in capabilities() {
        let mut s = Script::new(caps);
        s.columns(1, out, false, true);
        s.row(b"\x00\x00\x02\0\0\0");
        s.end(if caps.has(C::DEPRECATE_EOF) { out } else { Status::AUTOCOMMIT });
        s.ok(Status::AUTOCOMMIT);
        s.check(Expect::Execute, "OUT parameters");
    }
}

#[test]
fn every_reply_to_a_prepare() {
    for caps in capabilities() {
        for (params, columns, metadata_follows) in [
            (0, 0, true),
            (1, 0, true),
            (0, 1, true),
            (3, 2, true),
            (30, 1, true),
            (0, 0, false),
            (2, 0, false),
            (0, 3, false),
            (2, 3, false),
        ] {
            let ok = PrepareOk { statement_id: 9, num_columns: columns, num_params: params, warnings: 0, metadata_follows };
            let defined = metadata_follows || !caps.has(C::OPTIONAL_RESULTSET_METADATA);
            let mut s = Script::new(caps);
            s.progress();
            let payload = Script::payload(|out| ok.write(out, caps));
            s.control(PrepareOk, &payload);
            for (n, last) in [(params, columns == 0), (columns, true)] {
                if n > 0 {
                    s.definitions(if defined { u64::from(n) } else { 0 });
                    s.eof(Status::NONE, !last);
                }
            }
            s.check(Expect::Prepare, &format!("{params} parameters and {columns} columns, defined: {defined}"));
        }
        let mut s = Script::new(caps);
        s.err();
        s.check(Expect::Prepare, "error");
    }
}

#[test]
fn every_other_reply() {
    for caps in capabilities() {
        for expect in [Expect::Simple, Expect::FieldList, Expect::Statistics, Expect::Prepare, Expect::Fetch] {
            let mut s = Script::new(caps);
            s.err();
            s.check(expect, "error");
        }
        for status in [Status::NONE, Status::MORE_RESULTS] {
            let mut s = Script::new(caps);
            s.ok(status);
            s.check(Expect::Simple, "OK");
            let mut s = Script::new(caps);
            s.end(status);
            s.check(Expect::Simple, "EOF");
            // MariaDB and MySQL both write an OK here under DEPRECATE_EOF; an EOF is understood as well.
            let mut s = Script::new(caps);
            s.control(Eof, b"\xfe\0\0\x02\0");
            s.check(Expect::Simple, "EOF of old");
        }
        for columns in [0, 1, 3] {
            let mut s = Script::new(caps);
            s.definitions(columns);
            s.end(Status::NONE);
            s.check(Expect::FieldList, "definitions");
        }
        for text in [&b"Uptime: 7"[..], b"", b"\0", b"\xfe\0\0\x02\0"] {
            let mut s = Script::new(caps);
            s.packet(text);
            s.check(Expect::Statistics, "text");
        }
    }
}

#[test]
fn rows_of_16_mib_and_more() {
    // A value of 16 MiB has a length that begins with 0xFE; continuations begin with every byte that could be taken for a packet of its own.
    let long_value = |len: usize, filler: u8| {
        let mut row = BytesMut::new();
        row.put_lenenc_bytes(&vec![filler; len]);
        row
    };
    for caps in [C::NONE, C::DEPRECATE_EOF] {
        for filler in [0x00, 0xFB, 0xFE, 0xFF] {
            let mut s = Script::new(caps);
            s.columns(1, Status::NONE, false, true);
            s.row(&long_value(MAX_PAYLOAD - 5, filler));
            s.row(&long_value(MAX_PAYLOAD - 4, filler));
            s.row(&long_value(MAX_PAYLOAD + 1, filler));
            s.row(&long_value(MAX_PAYLOAD + 9, filler));
            s.row(b"\x01a");
            s.end(Status::NONE);
            for piece in [s.wire.len(), 1 << 16, MAX_PAYLOAD, MAX_PAYLOAD + HEADER_LEN] {
                // Not by way of a `Story`, which keeps what it saw.
                let mut tracker = ReplyTracker::new(Expect::Query, caps);
                let (mut kept, mut at, mut passed, mut end) = (Vec::new(), 0, 0, false);
                while !end {
                    let next = (at + piece).min(s.wire.len());
                    kept.extend_from_slice(&s.wire[at..next]);
                    at = next;
                    let walk = tracker.walk(&mut kept).unwrap();
                    kept.drain(..walk.pass);
                    passed += walk.pass;
                    assert!(kept.len() <= 11, "rows are not kept");
                    if let Event::Packet { len, done, .. } = walk.event {
                        assert!(done);
                        (passed, end) = (passed + len, true);
                    }
                }
                assert_eq!((tracker.rows(), passed, tracker.is_done()), (5, s.wire.len(), true));
            }
        }
    }
}

#[test]
fn a_short_row_that_begins_with_0xfe_without_deprecate_eof_is_a_row() {
    let mut s = Script::new(C::NONE);
    s.columns(1, Status::NONE, false, true);
    s.row(b"\xfe\x02\0\0\0\0\0\0\0ab");
    s.end(Status::NONE);
    s.check(Expect::Query, "clients take only up to 8 bytes for an EOF");
}

#[test]
fn an_error_with_the_number_of_progress_reports_is_an_error_where_those_were_not_negotiated() {
    let wire = b"\x0a\0\0\x01\xff\xff\xff\x01\x01\x02\0\0\0\0";
    assert_eq!(Story::of(Expect::Query, C::NONE, wire, 3).packets, [(Err, wire.to_vec(), true)]);
    assert!(!Story::of(Expect::Query, C::MARIADB_PROGRESS, wire, 3).done);
}

#[test]
fn what_is_no_reply() {
    let unexpected = |wanted, first| ReplyError::Unexpected { wanted, first };
    let malformed = |what| ReplyError::Malformed { what };
    let beginning = "the beginning of a reply";
    let rows = b"\x01\0\0\x01\x01\x05\0\0\x02\x03defx\x05\0\0\x03\xfe\0\0\0\0";
    let table: &[(&str, Expect, Capabilities, &[u8], ReplyError)] = &[
        (
            "out of order",
            Expect::Query,
            C::NONE,
            b"\x01\0\0\x01\x01\x05\0\0\x03\x03defx",
            ReplyError::Sequence { expected: 2, got: 3 },
        ),
        ("empty", Expect::Query, C::NONE, b"\0\0\0\x01", ReplyError::Empty { wanted: beginning }),
        ("empty row", Expect::Query, C::NONE, &[&rows[..], b"\0\0\0\x04"].concat(), ReplyError::Empty { wanted: "a row" }),
        (
            "row out of order",
            Expect::Query,
            C::NONE,
            &[&rows[..], b"\x01\0\0\x05\0"].concat(),
            ReplyError::Sequence { expected: 4, got: 5 },
        ),
        ("no columns", Expect::Query, C::NONE, b"\x03\0\0\x01\xfc\0\0", malformed("column count")),
        ("too many columns", Expect::Query, C::NONE, b"\x09\0\0\x01\xfe\0\0\0\x01\0\0\0\0", malformed("column count")),
        ("more than a count", Expect::Query, C::NONE, b"\x02\0\0\x01\x01\x01", malformed("column count")),
        ("no word on metadata", Expect::Query, C::MARIADB_CACHE_METADATA, b"\x01\0\0\x01\x01", malformed("column count")),
        ("short OK", Expect::Query, C::NONE, b"\x03\0\0\x01\0\0\0", malformed("OK packet")),
        (
            "OK with broken state",
            Expect::Query,
            C::SESSION_TRACK,
            b"\x0a\0\0\x01\0\0\0\x02\x40\0\0\0\x07\x01",
            malformed("OK packet"),
        ),
        ("short ERR", Expect::Query, C::NONE, b"\x02\0\0\x01\xff\x01", malformed("ERR packet")),
        ("short EOF", Expect::Fetch, C::NONE, b"\x04\0\0\x01\xfe\0\0\0", malformed("EOF packet")),
        ("short answer to a prepare", Expect::Prepare, C::NONE, b"\x07\0\0\x01\0\0\0\0\0\0\0", malformed("answer to a PREPARE")),
        ("rows for a ping", Expect::Simple, C::NONE, b"\x01\0\0\x01\x01", unexpected(beginning, 1)),
        ("a file for a ping", Expect::Simple, C::NONE, b"\x02\0\0\x01\xfbx", unexpected(beginning, 0xFB)),
        ("EOF for a prepare", Expect::Prepare, C::NONE, b"\x05\0\0\x01\xfe\0\0\0\0", unexpected(beginning, 0xFE)),
        (
            "EOF for a definition",
            Expect::Query,
            C::NONE,
            b"\x01\0\0\x01\x01\x05\0\0\x02\xfe\0\0\0\0",
            unexpected("a column definition", 0xFE),
        ),
        (
            "a row for an EOF",
            Expect::Query,
            C::NONE,
            b"\x01\0\0\x01\x01\x05\0\0\x02\x03defx\x02\0\0\x03\x01a",
            unexpected("an EOF", 1),
        ),
        ("an endless ERR", Expect::Query, C::NONE, b"\xff\xff\xff\x01\xff\x01\x02", ReplyError::TooLong),
        ("an endless OK", Expect::Query, C::NONE, b"\xff\xff\xff\x01\0\x01\x02", ReplyError::TooLong),
    ];
    for (what, expect, caps, wire, error) in table {
        let whole = Story::of(*expect, *caps, wire, wire.len());
        assert_eq!(whole.error, Some(*error), "{what}");
        assert!(!whole.done);
        for piece in 1..wire.len() {
            Story::of(*expect, *caps, wire, piece).assert_same(&whole);
        }
    }
    // The row of 16 MiB that never continues where it should.
    let mut tracker = ReplyTracker::new(Expect::Fetch, C::NONE);
    let mut wire = vec![0; HEADER_LEN + MAX_PAYLOAD];
    wire[..HEADER_LEN].copy_from_slice(b"\xff\xff\xff\x01");
    wire.extend_from_slice(b"\x01\0\0\x03x");
    assert_eq!(walk(&mut tracker, &wire), Result::Err(ReplyError::Sequence { expected: 2, got: 3 }));
}

#[test]
fn what_a_tracker_knows_on_the_way() {
    let mut tracker = ReplyTracker::new(Expect::Query, C::NONE);
    assert!(std::mem::size_of_val(&tracker) <= 64);
    assert_eq!(walk(&mut tracker, b""), Result::Ok(Walk { pass: 0, event: Event::NeedMore }));
    assert_eq!(walk(&mut tracker, b"\x01\0\0\x01"), Result::Ok(Walk { pass: 0, event: Event::NeedMore }));
    assert!(!tracker.started() && !tracker.is_done());
    assert_eq!(walk(&mut tracker, b"\x01\0\0\x01\x01\x05"), Result::Ok(Walk { pass: 5, event: Event::NeedMore }));
    assert!(tracker.started());
    assert_eq!(tracker.next_seq(), Some(2));
    assert_eq!(
        walk(&mut tracker, b"\x05\0\0\x02\x03d"),
        Result::Ok(Walk { pass: 6, event: Event::NeedMore }),
        "part of a definition"
    );
    assert_eq!(
        walk(&mut tracker, b"efx\x05\0\0\x03\xfe\0\0\x03\0"),
        Result::Ok(Walk { pass: 12, event: Event::NeedMore }),
        "a silent EOF"
    );
    assert_eq!(tracker.last_status(), Status::IN_TRANS | Status::AUTOCOMMIT);
    let last = Event::Packet { kind: Eof, len: 9, done: true };
    assert_eq!(walk(&mut tracker, b"\x02\0\0\x04\x01a\x05\0\0\x05\xfe\0\0\x02\0rest"), Result::Ok(Walk { pass: 6, event: last }));
    assert_eq!((tracker.rows(), tracker.last_status(), tracker.is_done()), (1, Status::AUTOCOMMIT, true));
}

#[test]
fn every_file_of_the_fuzz_corpus() {
    run_corpus("reply", crate::protocol::fuzz::reply);
}

/// The fuzzer begins with what real servers answered. `WRITE_CORPUS=1` in the environment writes the files anew.
#[test]
fn the_fuzz_corpus_is_what_servers_answered() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/fuzz/corpus/reply");
    let mut inputs = std::collections::BTreeMap::new();
    for f in fixtures::all().iter().filter(|f| f.wire.len() < 1024) {
        // One of the two servers is enough where both know the capabilities.
        let what = f.what.split_once(", ").map_or("", |(_, what)| what).to_ascii_lowercase();
        let name: String = what.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(80).collect();
        inputs.insert(name, crate::protocol::fuzz::reply_input(f.expect, f.caps, 3, &f.wire));
    }
    for (name, input) in inputs {
        let path = folder.join(&name);
        if std::env::var_os("WRITE_CORPUS").is_some() {
            std::fs::write(&path, &input).unwrap();
        }
        assert!(std::fs::read(&path).is_ok_and(|there| there == input), "{name}: WRITE_CORPUS=1 makes it");
    }
}

/// An empty packet has no first byte: the next packet's must not be taken for it.
#[test]
fn an_empty_packet_is_not_judged_by_what_follows_it() {
    for expect in [Expect::Query, Expect::Prepare, Expect::Execute, Expect::Simple] {
        let mut tracker = ReplyTracker::new(expect, Capabilities::NONE);
        let empty_then_more = [0, 0, 0, 1, 0, 8, 0, 0];
        let error = walk(&mut tracker, &empty_then_more).err();
        assert_eq!(error, Some(ReplyError::Empty { wanted: "the beginning of a reply" }), "{expect:?}");
    }
}

proptest! {
    #[test]
    fn random_cuts_make_no_difference(
        which in 0usize..10_000, cuts in proptest::collection::vec(1usize..40, 1..40),
    ) {
        let fixtures = fixtures::all();
        let f = &fixtures[which % fixtures.len()];
        let (mut rest, mut pieces, mut n) = (&f.wire[..], Vec::new(), 0);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(cuts[n % cuts.len()].min(rest.len()));
            pieces.push(now);
            (rest, n) = (later, n + 1);
        }
        Story::cut_at(f.expect, f.caps, pieces).assert_same(&Story::of(f.expect, f.caps, &f.wire, f.wire.len()));
    }

    #[test]
    fn any_bytes_are_walked_the_same_however_they_are_cut(
        expect in 0..EXPECTATIONS.len() as u8, caps: u8, cut: u8, wire in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        crate::protocol::fuzz::reply(&[&[expect, caps, cut][..], &wire].concat());
    }

    #[test]
    fn damaged_replies_are_walked_the_same_however_they_are_cut(
        which in 0usize..10_000, cut: u8, place in 0usize..400, byte: u8,
    ) {
        let fixtures = fixtures::all();
        let f = &fixtures[which % fixtures.len()];
        let mut wire = f.wire.clone();
        let place = place % wire.len();
        wire[place] = byte;
        crate::protocol::fuzz::reply(&crate::protocol::fuzz::reply_input(f.expect, f.caps, cut, &wire));
    }
}
