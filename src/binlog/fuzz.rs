//! The body of the fuzz target: any bytes as a stream of events, whole and cut, come to the same.

use super::machine::{Machine, Settings, Step};
use crate::topology::Flavor;
use crate::topology::gtid::GtidSet;

/// The first byte chooses the family, the second how the rest is cut.
pub fn events(data: &[u8]) {
    let [family, cut, stream @ ..] = data else { return };
    let flavor = if family & 1 == 0 { Flavor::MySql } else { Flavor::MariaDb };
    let whole = read(flavor, stream, stream.len().max(1));
    let pieces = read(flavor, stream, usize::from(*cut % 64) + 1);
    assert_eq!(whole, pieces, "cut into pieces, the same events are found");
}

/// What is found in bytes that arrive in pieces, and whether they broke.
pub fn read(flavor: Flavor, stream: &[u8], piece: usize) -> (Vec<Step>, Option<String>) {
    let mut machine = Machine::new(Settings { flavor, lower: false, ignored: None }, GtidSet::empty(flavor));
    let mut steps = Vec::new();
    for bytes in stream.chunks(piece) {
        if let Err(broken) = machine.push(bytes, &mut steps) {
            return (steps, Some(broken.to_string()));
        }
    }
    (steps, None)
}
