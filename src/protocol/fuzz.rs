//! Bodies of the fuzz targets in `integration/fuzz`, kept here so that the unit tests run every corpus file through the same code.
//!
//! A body panics when a property does not hold; it must hold for any bytes at all.

use bytes::BytesMut;

use super::Capabilities;
use super::frame::{FrameError, next_packet, put_packet};
use super::ok_err_eof::Status;
use super::reply::old_eof::eof_packet;
use super::reply::{Event, Expect, PacketKind, ReplyError, ReplyTracker};

/// The largest packet the frame target accepts, so that a header of 16 MiB is an error and not a wait.
const FRAME_LIMIT: usize = 1 << 16;

/// Frames found in any bytes are those found in any prefix of them, and writing them again gives the same bytes.
pub fn frame(data: &[u8]) {
    let mut at = 0;
    loop {
        let rest = data.get(at..).unwrap_or_default();
        match next_packet(rest, FRAME_LIMIT) {
            Ok(Some(packet)) => {
                let mut again = BytesMut::new();
                assert_eq!(put_packet(&mut again, packet.seq, &packet.payload), packet.next_seq);
                assert_eq!(Some(again.as_ref()), rest.get(..packet.wire_len));
                let cut = rest.get(..packet.wire_len.saturating_sub(1)).unwrap_or_default();
                assert_eq!(next_packet(cut, FRAME_LIMIT), Ok(None), "a packet without its last byte");
                at += packet.wire_len;
            }
            Ok(None) => return,
            Err(error) => {
                assert!(!matches!(error, FrameError::TooLarge { len, .. } if len <= FRAME_LIMIT));
                return;
            }
        }
    }
}

/// What the capabilities a reply depends on are chosen by: one bit each of the target's second byte.
pub const CAPABILITY_BITS: [Capabilities; 6] = [
    Capabilities::DEPRECATE_EOF,
    Capabilities::SESSION_TRACK,
    Capabilities::OPTIONAL_RESULTSET_METADATA,
    Capabilities::MARIADB_CACHE_METADATA,
    Capabilities::MARIADB_PROGRESS,
    Capabilities::MARIADB_EXTENDED_METADATA,
];

/// What a reply can be expected to be, chosen by the target's first byte.
pub const EXPECTATIONS: [Expect; 7] =
    [Expect::Query, Expect::Prepare, Expect::Execute, Expect::Fetch, Expect::FieldList, Expect::Statistics, Expect::Simple];

/// Bits of the same byte: the reply goes to a client without `DEPRECATE_EOF`, and it may hold OUT parameters, else a cursor.
const OLD_CLIENT: u8 = 1 << 6;
const OUT_PARAMS: u8 = 1 << 7;

/// Any reply, whole and cut into pieces whose length the third byte says, is walked to the same effect.
pub fn reply(data: &[u8]) {
    let [expect, caps, cut, wire @ ..] = data else { return };
    let Some(expect) = EXPECTATIONS.get(usize::from(*expect) % EXPECTATIONS.len()) else { return };
    let mut chosen = Capabilities::NONE;
    for (n, bit) in CAPABILITY_BITS.iter().enumerate() {
        if caps & (1 << n) != 0 {
            chosen = chosen | *bit;
        }
    }
    let client = if caps & OLD_CLIENT == 0 { chosen } else { chosen - Capabilities::DEPRECATE_EOF };
    let tracker = ReplyTracker::new(*expect, chosen).toward(client, caps & OUT_PARAMS == 0, caps & OUT_PARAMS != 0);
    let whole = Story::told(tracker, [wire]);
    let pieces = Story::told(tracker, wire.chunks(usize::from(*cut % 32) + 1));
    whole.assert_same(&pieces);
}

/// The fuzz target's input for a reply: the choice of `expect` and `caps` before the bytes.
pub fn reply_input(expect: Expect, caps: Capabilities, cut: u8, wire: &[u8]) -> Vec<u8> {
    let expect = EXPECTATIONS.iter().position(|e| *e == expect).unwrap_or_default() as u8;
    let bits = CAPABILITY_BITS.iter().enumerate().filter(|(_, bit)| caps.has(**bit)).fold(0u8, |bits, (n, _)| bits | 1 << n);
    [&[expect, bits, cut][..], wire].concat()
}

/// All that a relay would have seen of a reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Story {
    /// The control packets, in order, with their bytes and whether they were the last.
    pub packets: Vec<(PacketKind, Vec<u8>, bool)>,
    /// Every byte that went to the client, control packets included.
    pub forwarded: Vec<u8>,
    /// Rows counted.
    pub rows: u64,
    /// The last flags.
    pub status: Status,
    /// Whether the reply ended.
    pub done: bool,
    /// How it failed.
    pub error: Option<ReplyError>,
}

impl Story {
    /// Walks `wire`, which arrives in pieces of `piece` bytes, keeping what a walk leaves until more has come.
    pub fn of(expect: Expect, caps: Capabilities, wire: &[u8], piece: usize) -> Story {
        Story::cut_at(expect, caps, wire.chunks(piece.max(1)))
    }

    /// The same for pieces of any lengths.
    pub fn cut_at<'a>(expect: Expect, caps: Capabilities, pieces: impl IntoIterator<Item = &'a [u8]>) -> Story {
        Story::told(ReplyTracker::new(expect, caps), pieces)
    }

    /// The same with a tracker of one's own.
    pub fn told<'a>(mut tracker: ReplyTracker, pieces: impl IntoIterator<Item = &'a [u8]>) -> Story {
        let mut story =
            Story { packets: Vec::new(), forwarded: Vec::new(), rows: 0, status: Status::NONE, done: false, error: None };
        let mut kept: Vec<u8> = Vec::new();
        'pieces: for piece in pieces {
            kept.extend_from_slice(piece);
            loop {
                let walk = match tracker.walk(&mut kept) {
                    Ok(walk) => walk,
                    Err(error) => {
                        story.error = Some(error);
                        break 'pieces;
                    }
                };
                story.forwarded.extend(kept.drain(..walk.pass));
                match walk.event {
                    Event::NeedMore => break,
                    Event::EofDue { seq, done } => {
                        let packet = eof_packet(seq, 0, Status::NONE).to_vec();
                        story.forwarded.extend_from_slice(&packet);
                        story.packets.push((PacketKind::Eof, packet, done));
                    }
                    Event::Packet { kind, len, done } => {
                        let packet: Vec<u8> = kept.drain(..len).collect();
                        story.forwarded.extend_from_slice(&packet);
                        story.packets.push((kind, packet, done));
                        assert_eq!(done, tracker.is_done());
                    }
                }
            }
            if tracker.is_done() {
                let idle = tracker.walk(&mut kept);
                assert!(idle.is_ok_and(|walk| walk.pass == 0 && walk.event == Event::NeedMore), "nothing beyond the end");
            }
        }
        if story.error.is_none() {
            assert_eq!(tracker.started(), !story.forwarded.is_empty());
        }
        (story.rows, story.status, story.done) = (tracker.rows(), tracker.last_status(), tracker.is_done());
        story
    }

    /// Panics unless both tell the same. After an error, what was forwarded before it depends on the cuts, so one begins with the other.
    pub fn assert_same(&self, other: &Story) {
        assert_eq!(self.packets, other.packets);
        assert_eq!(self.error, other.error);
        assert_eq!((self.rows, self.status, self.done), (other.rows, other.status, other.done));
        if self.error.is_some() {
            let common = self.forwarded.len().min(other.forwarded.len());
            assert_eq!(self.forwarded.get(..common), other.forwarded.get(..common));
        } else {
            assert_eq!(self.forwarded, other.forwarded);
        }
    }
}

/// Runs a target's body over every file of its corpus; a corpus without files fails the test.
#[cfg(test)]
pub(crate) fn run_corpus(target: &str, body: fn(&[u8])) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/fuzz/corpus").join(target);
    let mut files = 0;
    for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("a readable folder").path();
        body(&std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())));
        files += 1;
    }
    assert!(files > 0, "{} is empty", folder.display());
}
