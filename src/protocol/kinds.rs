//! Which executions of one prepared statement mean the same whoever came before.
//!
//! MySQL (8.0.22 and later) gives a parameter its type when a statement is first executed, and keeps it as far as it believes that it
//! can: a number sent for what was a DATETIME is read as NULL or a zero date, a string sent for what was a number as 0. A client that
//! has a statement for itself knows what it sent before; one that shares it with others must not see what they sent.
//!
//! Source: tried on MySQL 9.7, for every pair of types; MariaDB 10.11 looks at the types anew with each execution.

use super::primitives::Reader;

/// What the server takes a type for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Strings and blobs, and whatever else is sent as one. What comes behind them is read for what it is.
    Text,
    /// A parameter that was NULL each time.
    Null,
    Integer,
    Real,
    Decimal,
    Date,
    Time,
    DateTime,
}

impl Kind {
    fn of(code: u8) -> Kind {
        match code {
            // TINY, SHORT, LONG, LONGLONG, INT24, YEAR
            1 | 2 | 3 | 8 | 9 | 13 => Kind::Integer,
            4 | 5 => Kind::Real,
            0 | 246 => Kind::Decimal,
            10 | 14 => Kind::Date,
            11 | 19 => Kind::Time,
            7 | 12 | 17 | 18 => Kind::DateTime,
            6 => Kind::Null,
            _ => Kind::Text,
        }
    }

    /// What the parameter is after `next` was sent for it; `None`: the server would misread that.
    fn then(self, next: Kind) -> Option<Kind> {
        match (self, next) {
            (_, Kind::Null) => Some(self),
            (Kind::Text | Kind::Null, _) => Some(next),
            _ => (self == next).then_some(self),
        }
    }
}

/// The kinds of the parameters that a server's statement has; none before it was executed.
#[derive(Debug, Default)]
pub struct Kinds(Vec<Kind>);

impl Kinds {
    /// Notes an execution with these types, as [`types_of`](super::prepared::types_of) finds them. `names`: each carries a name
    /// (`QUERY_ATTRIBUTES`). `false`: the server would misread its parameters; nothing is noted then.
    pub fn take_over(&mut self, types: &[u8], names: bool) -> bool {
        let (mut reader, mut at) = (Reader::new(types), 0);
        // First whether, then what: most executions change nothing, and need no second look.
        let mut changes = false;
        while let Some(next) = next_kind(&mut reader, names) {
            match self.0.get(at).map(|kind| (kind, kind.then(next))) {
                Some((_, None)) => return false,
                Some((kind, Some(after))) => changes |= *kind != after,
                None => changes = true,
            }
            at += 1;
        }
        if changes {
            let mut reader = Reader::new(types);
            at = 0;
            while let Some(next) = next_kind(&mut reader, names) {
                match self.0.get_mut(at) {
                    Some(kind) => *kind = kind.then(next).unwrap_or(next),
                    None => self.0.push(next),
                }
                at += 1;
            }
        }
        true
    }
}

fn next_kind(reader: &mut Reader<'_>, names: bool) -> Option<Kind> {
    let [code, _flags] = reader.u16()?.to_le_bytes();
    if names {
        reader.lenenc_bytes()?;
    }
    Some(Kind::of(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INT: u8 = 3;
    const LONGLONG: u8 = 8;
    const DOUBLE: u8 = 5;
    const DATETIME: u8 = 12;
    const STRING: u8 = 253;
    const NULL: u8 = 6;

    #[test]
    fn an_execution_may_follow_what_the_server_would_not_misread() {
        // (types of the executions in turn, whether the last may use the same statement)
        for (history, same) in [
            (&[&[INT][..], &[LONGLONG]][..], true),
            (&[&[INT], &[DOUBLE]], false),
            (&[&[DATETIME], &[LONGLONG]], false),
            (&[&[INT], &[STRING]], false),
            (&[&[STRING], &[INT]], true),
            (&[&[STRING], &[INT], &[STRING]], false),
            (&[&[NULL], &[INT], &[NULL], &[LONGLONG]], true),
            (&[&[NULL], &[INT], &[NULL], &[DATETIME]], false),
            (&[&[INT, STRING], &[LONGLONG, DATETIME]], true),
            (&[&[INT, DATETIME], &[LONGLONG, STRING]], false),
        ] {
            for names in [false, true] {
                let mut kinds = Kinds::default();
                let (last, before) = history.split_last().unwrap();
                let block = |types: &[u8]| -> Vec<u8> {
                    let name = if names { &b"\x02ab"[..] } else { b"" };
                    types.iter().flat_map(|code| [&[*code, 0x80][..], name].concat()).collect()
                };
                for types in before {
                    assert!(kinds.take_over(&block(types), names), "{history:?}");
                }
                assert_eq!(kinds.take_over(&block(last), names), same, "{history:?}");
            }
        }
    }

    #[test]
    fn a_block_that_is_cut_short_tells_what_it_has() {
        let mut kinds = Kinds::default();
        assert!(kinds.take_over(&[INT, 0, STRING], false));
        assert!(kinds.take_over(&[INT, 0, 9, b'a'], true));
        assert!(!kinds.take_over(&[DATETIME, 0], false));
    }
}
