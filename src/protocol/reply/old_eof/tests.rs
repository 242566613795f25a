//! What servers answer with `DEPRECATE_EOF`, written for a client without it, is what they answer without it.

use super::*;
use crate::protocol::Capabilities;
use crate::protocol::reply::fixtures;
use crate::protocol::reply::{Event, Expect, PacketKind, ReplyTracker};

/// Writes `wire`, which arrives in two pieces, as the relay does; what may be written after each piece goes out.
fn written(expect: Expect, caps: Capabilities, out_params: bool, wire: &[u8], cut: usize, of_mysql: bool) -> Vec<u8> {
    let cursor = expect == Expect::Execute && !out_params;
    let mut tracker = ReplyTracker::new(expect, caps).toward(Capabilities::NONE, cursor, out_params);
    let (mut out, mut kept) = (Vec::new(), Vec::new());
    for piece in [&wire[..cut], &wire[cut..]] {
        kept.extend_from_slice(piece);
        let (mut at, mut unflagged) = (0, None);
        loop {
            let walk = tracker.walk(&mut kept[at..]).unwrap();
            at += walk.pass;
            match walk.event {
                Event::NeedMore => break,
                Event::EofDue { seq, .. } => {
                    kept.splice(at..at, eof_packet(seq, 0, Status::AUTOCOMMIT));
                    unflagged = Some((at, seq));
                    at += EOF_PACKET_LEN;
                }
                Event::Packet { kind: PacketKind::Ok, len, .. } if kept[at + HEADER_LEN] == EOF_HEADER => {
                    let packet = kept[at..at + len].to_vec();
                    let ok = OkPacket::parse(&packet[HEADER_LEN..], caps).unwrap();
                    kept.splice(at..at + len, at_end(packet[3], &ok, of_mysql));
                    if let Some((place, seq)) = unflagged.take() {
                        kept.splice(place..place + EOF_PACKET_LEN, before_rows(seq, &ok));
                    }
                    at += EOF_PACKET_LEN;
                }
                Event::Packet { kind, len, .. } => {
                    if kind == PacketKind::LocalInfile {
                        tracker.behind_file(kept[at + 3].wrapping_add(2));
                    }
                    at += len;
                }
            }
        }
        out.extend(kept.drain(..at));
    }
    assert!(kept.is_empty() && tracker.is_done());
    out
}

/// Number and payload of each packet.
fn packets(wire: &[u8]) -> Vec<(u8, &[u8])> {
    let (mut rest, mut all) = (wire, Vec::new());
    while let Some(header) = Header::parse(rest) {
        all.push((header.seq, &rest[HEADER_LEN..header.packet_len()]));
        rest = &rest[header.packet_len()..];
    }
    all
}

/// The flags of an EOF are left out: where they come before what they tell of, they are those that were known.
fn without_flags(payload: &[u8]) -> Vec<u8> {
    let eof = payload.len() == 5 && payload[0] == EOF_HEADER;
    payload[..if eof { 3 } else { payload.len() }].to_vec()
}

#[test]
fn replies_with_deprecate_eof_become_those_without_it() {
    let mut compared = 0;
    let tells = |f: &&fixtures::Fixture| f.expect != Expect::Statistics;
    for with in fixtures::all().iter().filter(tells).filter(|f| f.caps.has(Capabilities::DEPRECATE_EOF)) {
        let caps = with.caps - Capabilities::DEPRECATE_EOF;
        let parts =
            |what: &str| (what.split(",").next().map(str::to_owned), what.split_once(": ").map(|(_, name)| name.to_owned()));
        let same = |f: &&fixtures::Fixture| f.caps == caps && parts(&f.what) == parts(&with.what);
        let Some(without) = fixtures::all().iter().find(same) else { continue };
        let out_params = with.what.contains("OUT parameters");
        let wanted = packets(&without.wire);
        let of_mysql = with.what.starts_with("mysql");
        for cut in 0..=with.wire.len() {
            let got = written(with.expect, with.caps, out_params, &with.wire, cut, of_mysql);
            let got = packets(&got);
            let text =
                |all: &[(u8, &[u8])]| -> Vec<_> { all.iter().map(|(seq, payload)| (*seq, without_flags(payload))).collect() };
            assert_eq!(text(&got), text(&wanted), "{} cut at {cut}", with.what);
            // An error in the rows is preceded by flags that nothing tells; whatever comes at once tells them all.
            if cut == 0 && !with.kinds.contains(&PacketKind::Err) && with.expect != Expect::Prepare {
                assert_eq!(got, wanted, "{}", with.what);
            }
        }
        if out_params {
            let last_but_one = wanted.iter().rposition(|(_, p)| without_flags(p).len() == 3).unwrap();
            let flags = &wanted[..last_but_one].iter().rfind(|(_, p)| without_flags(p).len() == 3).unwrap().1[3..];
            assert!(Status(u16::from_le_bytes([flags[0], flags[1]])).has(Status::PS_OUT_PARAMS), "{}", with.what);
            for cut in 0..=with.wire.len() {
                let got = written(with.expect, with.caps, true, &with.wire, cut, of_mysql);
                let named = packets(&got).iter().any(|(_, p)| *p == [&[EOF_HEADER, 0, 0], flags].concat());
                assert!(named, "{} cut at {cut}: the row of OUT parameters is waited for", with.what);
            }
        }
        compared += 1;
    }
    assert!(compared > 100, "{compared}");
}
