//! Replies of real servers, in `fixtures.txt`: each is walked whole and cut at every byte.

use std::sync::LazyLock;

use crate::protocol::Capabilities;
use crate::protocol::fuzz::{EXPECTATIONS, Story};
use crate::protocol::reply::{Expect, PacketKind};

pub(super) struct Fixture {
    pub what: String,
    pub expect: Expect,
    pub caps: Capabilities,
    pub rows: u64,
    pub kinds: Vec<PacketKind>,
    pub wire: Vec<u8>,
}

fn capabilities(names: &str) -> Capabilities {
    let one = |name| match name {
        "NONE" => Capabilities::NONE,
        "DEPRECATE_EOF" => Capabilities::DEPRECATE_EOF,
        "SESSION_TRACK" => Capabilities::SESSION_TRACK,
        "OPTIONAL_RESULTSET_METADATA" => Capabilities::OPTIONAL_RESULTSET_METADATA,
        "MARIADB_CACHE_METADATA" => Capabilities::MARIADB_CACHE_METADATA,
        "MARIADB_EXTENDED_METADATA" => Capabilities::MARIADB_EXTENDED_METADATA,
        "MARIADB_PROGRESS" => Capabilities::MARIADB_PROGRESS,
        other => panic!("{other}"),
    };
    names.split('+').map(one).fold(Capabilities::NONE, |caps, one| caps | one)
}

fn kind(name: &str, deprecate_eof: bool) -> Option<PacketKind> {
    match name {
        "End" if deprecate_eof => Some(PacketKind::Ok),
        "Eof" if deprecate_eof => None,
        "End" | "Eof" => Some(PacketKind::Eof),
        "Ok" => Some(PacketKind::Ok),
        "Err" => Some(PacketKind::Err),
        "LocalInfile" => Some(PacketKind::LocalInfile),
        "PrepareOk" => Some(PacketKind::PrepareOk),
        "Progress" => Some(PacketKind::Progress),
        other => panic!("{other}"),
    }
}

static FIXTURES: LazyLock<Vec<Fixture>> = LazyLock::new(read);

pub(super) fn all() -> &'static [Fixture] {
    &FIXTURES
}

fn read() -> Vec<Fixture> {
    let lines = include_str!("fixtures.txt").lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let fields: Vec<&str> = line.split(" | ").map(str::trim).collect();
            let &[server, name, expect, caps, rows, kinds, hex] = fields.as_slice() else { panic!("{line}") };
            let caps = capabilities(caps);
            let deprecate_eof = caps.has(Capabilities::DEPRECATE_EOF);
            Fixture {
                what: format!("{server}, {caps:?}: {name}"),
                expect: *EXPECTATIONS.iter().find(|e| format!("{e:?}") == expect).expect("a known expectation"),
                caps,
                rows: rows.parse().expect("a number"),
                kinds: kinds.split_whitespace().filter_map(|name| kind(name, deprecate_eof)).collect(),
                wire: (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).expect("hex")).collect(),
            }
        })
        .collect()
}

#[test]
fn replies_of_mysql_9_7_and_mariadb_10_11() {
    let fixtures = all();
    assert!(fixtures.len() > 400);
    for Fixture { what, expect, caps, rows, kinds, wire } in fixtures {
        let (expect, caps) = (*expect, *caps);
        let whole = Story::of(expect, caps, wire, wire.len());
        assert_eq!(whole.error, None, "{what}");
        assert_eq!(whole.packets.iter().map(|(kind, ..)| *kind).collect::<Vec<_>>(), *kinds, "{what}");
        assert_eq!((whole.rows, whole.done), (*rows, true), "{what}");
        assert!(whole.forwarded == *wire, "{what}: every byte is forwarded");
        for cut in 1..wire.len() {
            Story::cut_at(expect, caps, [&wire[..cut], &wire[cut..]]).assert_same(&whole);
        }
        for piece in 1..=7 {
            Story::of(expect, caps, wire, piece).assert_same(&whole);
        }
        let followed = [&wire[..], b"\x07\0\0\x01\0\0\0\x02\0\0\0"].concat();
        Story::of(expect, caps, &followed, followed.len()).assert_same(&whole);
        for cut in 0..wire.len() {
            assert!(!Story::of(expect, caps, &wire[..cut], cut).done, "{what}: done after {cut} of {} bytes", wire.len());
        }
    }
}
