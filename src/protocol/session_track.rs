//! Changes of the session's state, as the tail of an OK packet tells them.
//!
//! Sources: MySQL manual, "OK_Packet, Session State Information"; MariaDB knowledge base, "OK_Packet".
//! MySQL writes one SYSTEM_VARIABLES entry per variable, MariaDB may write several variables into one: both are read.

use bytes::{BufMut, BytesMut};
use thiserror::Error;

use super::primitives::{Put, Reader};

/// One change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change<'a> {
    /// A tracked variable was set, be it to the value it had.
    SystemVariable {
        /// The variable's name.
        name: &'a [u8],
        /// Its value now.
        value: &'a [u8],
    },
    /// The default schema now.
    Schema(&'a [u8]),
    /// With `session_track_state_change`: whether something of the session changed.
    StateChange(bool),
    /// GTIDs, as MySQL writes them: the transaction's own, or all executed, by `session_track_gtids`.
    Gtids(&'a [u8]),
    /// Statements that would start a transaction like the current one; empty when there is none.
    TransactionCharacteristics(&'a [u8]),
    /// Eight characters: `T`/`I` transaction, `r` `R` `w` `W` reads and writes, `s` unsafe statement, `S` result set, `L` locked tables.
    TransactionState(&'a [u8]),
}

/// The bytes ended within an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("session state information of type {kind} is cut short")]
pub struct TrackError {
    /// The entry's type byte.
    pub kind: u8,
}

/// The changes in an OK packet's `session_state`; types not known here are skipped.
pub fn changes(session_state: &[u8]) -> Changes<'_> {
    Changes { rest: Reader::new(session_state), variables: Reader::new(&[]) }
}

/// See [`changes`]. After an error there is nothing more.
#[derive(Clone, Debug)]
pub struct Changes<'a> {
    rest: Reader<'a>,
    /// What is left of the SYSTEM_VARIABLES entry being read.
    variables: Reader<'a>,
}

const SYSTEM_VARIABLES: u8 = 0;
const SCHEMA: u8 = 1;
const STATE_CHANGE: u8 = 2;
const GTIDS: u8 = 3;
const TRANSACTION_CHARACTERISTICS: u8 = 4;
const TRANSACTION_STATE: u8 = 5;

/// Variables that servers tell of without being asked (`session_track_system_variables` by default, MySQL and MariaDB).
const TOLD_BY_DEFAULT: [&[u8]; 5] =
    [b"autocommit", b"character_set_client", b"character_set_connection", b"character_set_results", b"time_zone"];

/// What a session has asked to be told beyond its schema and the five variables that clients follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hears {
    variables: bool,
    state_change: bool,
    gtids: bool,
    transaction: bool,
}

impl Hears {
    /// It has set this variable, one of `session_track_...`.
    pub fn more(&mut self, variable: &str) {
        match variable {
            "session_track_system_variables" => self.variables = true,
            "session_track_state_change" => self.state_change = true,
            "session_track_gtids" => self.gtids = true,
            "session_track_transaction_info" => self.transaction = true,
            _ => {}
        }
    }
}

/// What of `session_state` a server tells such a session. `None` where that is all there is, or where it cannot be read.
pub fn heard(session_state: &[u8], hears: Hears) -> Option<BytesMut> {
    let mut rest = Reader::new(session_state);
    let mut out = BytesMut::new();
    while !rest.is_empty() {
        let (kind, data) = (rest.u8()?, rest.lenenc_bytes()?);
        let whole = match kind {
            SCHEMA => true,
            SYSTEM_VARIABLES => hears.variables,
            STATE_CHANGE => hears.state_change,
            GTIDS => hears.gtids,
            TRANSACTION_CHARACTERISTICS | TRANSACTION_STATE => hears.transaction,
            _ => false,
        };
        let kept = match kind {
            _ if whole => data.into(),
            SYSTEM_VARIABLES => variables_by_default(data)?,
            _ => BytesMut::new(),
        };
        if !kept.is_empty() {
            out.put_u8(kind);
            out.put_lenenc_bytes(&kept);
        }
    }
    (out.len() < session_state.len()).then_some(out)
}

fn variables_by_default(data: &[u8]) -> Option<BytesMut> {
    let mut variables = Reader::new(data);
    let mut out = BytesMut::new();
    while !variables.is_empty() {
        let (name, value) = (variables.lenenc_bytes()?, variables.lenenc_bytes()?);
        if TOLD_BY_DEFAULT.contains(&name) {
            out.put_lenenc_bytes(name);
            out.put_lenenc_bytes(value);
        }
    }
    Some(out)
}

impl<'a> Changes<'a> {
    fn variable(&mut self) -> Option<Change<'a>> {
        Some(Change::SystemVariable { name: self.variables.lenenc_bytes()?, value: self.variables.lenenc_bytes()? })
    }

    /// The change an entry holds; `Ok(None)` when the entry is to be skipped.
    fn entry(&mut self, kind: u8) -> Option<Option<Change<'a>>> {
        let mut data = Reader::new(self.rest.lenenc_bytes()?);
        Some(match kind {
            SYSTEM_VARIABLES => {
                self.variables = data;
                if data.is_empty() { None } else { Some(self.variable()?) }
            }
            SCHEMA => Some(Change::Schema(data.lenenc_bytes()?)),
            // The one entry whose text has no length of its own within the entry.
            STATE_CHANGE => Some(Change::StateChange(data.rest() == b"1")),
            // One byte says how the GTIDs are written; 0 (text) is the only way there is.
            GTIDS => match data.u8()? {
                0 => Some(Change::Gtids(data.lenenc_bytes()?)),
                _ => None,
            },
            TRANSACTION_CHARACTERISTICS => Some(Change::TransactionCharacteristics(data.lenenc_bytes()?)),
            TRANSACTION_STATE => Some(Change::TransactionState(data.lenenc_bytes()?)),
            _ => None,
        })
    }

    fn fail(&mut self, kind: u8) -> Option<Result<Change<'a>, TrackError>> {
        *self = changes(&[]);
        Some(Err(TrackError { kind }))
    }
}

impl<'a> Iterator for Changes<'a> {
    type Item = Result<Change<'a>, TrackError>;

    fn next(&mut self) -> Option<Self::Item> {
        if !self.variables.is_empty() {
            return match self.variable() {
                Some(change) => Some(Ok(change)),
                None => self.fail(SYSTEM_VARIABLES),
            };
        }
        loop {
            let kind = self.rest.u8()?;
            match self.entry(kind) {
                Some(Some(change)) => return Some(Ok(change)),
                Some(None) => {}
                None => return self.fail(kind),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Change::*;
    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<Change<'_>>, TrackError> {
        changes(bytes).collect()
    }

    fn variable<'a>(name: &'a str, value: &'a str) -> Change<'a> {
        SystemVariable { name: name.as_bytes(), value: value.as_bytes() }
    }

    #[test]
    fn what_servers_send() {
        let table: &[(&str, &[u8], Vec<Change>)] = &[
            ("nothing", b"", vec![]),
            ("use test", b"\x01\x05\x04test", vec![Schema(b"test")]),
            (
                "mysql: one entry a variable",
                b"\x00\x0f\x0aautocommit\x03OFF\x00\x11\x09time_zone\x06+01:00\x02\x01\x31",
                vec![variable("autocommit", "OFF"), variable("time_zone", "+01:00"), StateChange(true)],
            ),
            (
                "several variables in one entry",
                b"\x00\x20\x0aautocommit\x03OFF\x09time_zone\x06+01:00\x01\x05\x04test",
                vec![variable("autocommit", "OFF"), variable("time_zone", "+01:00"), Schema(b"test")],
            ),
            (
                "mysql: commit with session_track_gtids",
                b"\x03\x28\x00\x26e15868fb-e6c6-11f1-b580-02fc00000001:7\x05\x09\x08________",
                vec![Gtids(b"e15868fb-e6c6-11f1-b580-02fc00000001:7"), TransactionState(b"________")],
            ),
            (
                "start transaction read only",
                b"\x05\x09\x08T_______\x04\x1d\x1cSTART TRANSACTION READ ONLY;",
                vec![TransactionState(b"T_______"), TransactionCharacteristics(b"START TRANSACTION READ ONLY;")],
            ),
            ("its end", b"\x04\x01\x00", vec![TransactionCharacteristics(b"")]),
            ("an unknown type is skipped", b"\x63\x03abc\x01\x02\x01x", vec![Schema(b"x")]),
            ("an unknown way to write GTIDs is skipped", b"\x03\x03\x01\x01x\x02\x01\x30", vec![StateChange(false)]),
            ("an empty entry", b"\x00\x00\x01\x02\x01x", vec![Schema(b"x")]),
        ];
        for (what, bytes, expected) in table {
            assert_eq!(all(bytes).as_ref(), Ok(expected), "{what}");
        }
    }

    #[test]
    fn who_did_not_ask_is_told_what_servers_tell() {
        let autocommit = b"\x00\x0f\x0aautocommit\x03OFF";
        let schema = b"\x01\x05\x04test";
        for (what, bytes, kept) in [
            ("nothing", &b""[..], None),
            ("the schema", schema, None),
            ("one of the five", autocommit, None),
            ("that something changed", b"\x02\x01\x31", Some(&b""[..])),
            ("a variable that only Sluice follows", b"\x00\x0b\x08sql_mode\x01x", Some(b"")),
            ("one of two in an entry", b"\x00\x1a\x0aautocommit\x03OFF\x08sql_mode\x01x", Some(autocommit)),
            ("a schema between others", b"\x02\x01\x31\x01\x05\x04test\x05\x09\x08________", Some(schema)),
            ("what is no entry", b"\x01\x50x", None),
        ] {
            assert_eq!(heard(bytes, Hears::default()).as_deref(), kept, "{what}");
        }
    }

    #[test]
    fn cut_anywhere_it_ends_with_an_error_or_early_but_never_wrong() {
        let whole = b"\x00\x20\x0aautocommit\x03OFF\x09time_zone\x06+01:00\x01\x05\x04test";
        let right = all(whole).unwrap();
        for cut in 0..whole.len() {
            let got: Vec<_> = changes(&whole[..cut]).collect();
            let good = got.iter().filter(|c| c.is_ok()).count();
            assert!(got.len() - good <= 1, "at most one error");
            for (got, right) in got.iter().flatten().zip(&right) {
                assert_eq!(got, right);
            }
            if cut != 0 && cut != 34 {
                assert!(got.last().is_some_and(|last| last.is_err()), "cut at {cut}");
            }
        }
        assert_eq!(all(b"\x00\x03\x05ab"), Err(TrackError { kind: 0 }), "a name longer than its entry");
        let mut twice = changes(b"\x01\x09\x04te");
        assert!(twice.next().is_some_and(|c| c.is_err()));
        assert_eq!(twice.next(), None);
    }
}
