//! `KILL` as it is written: a connection or what it runs, how hard, and whose.
//! Sources: MySQL 8.4 Reference Manual, "KILL Statement"; MariaDB, "KILL [CONNECTION | QUERY]".

use super::cursor::{Cursor, tokens};
use super::lexer::{LexMode, TokenKind};

/// A KILL that Sluice looks into is shorter.
const TOKENS_MAX: usize = 200;

/// Who is to be killed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Victim {
    /// `KILL 5`: the number of a connection.
    Thread(u64),
    /// `KILL QUERY ID 5`: a server's number of a statement (MariaDB).
    QueryId,
    /// `KILL USER u`: all connections of a user (MariaDB).
    User(String),
    /// `KILL ?`
    Parameter,
    /// `KILL @id`, `KILL @id + 1`: the expression, which only a server can compute.
    Expression(Vec<u8>),
}

/// One KILL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KillStatement {
    /// `KILL QUERY`: what runs, not the connection.
    pub query_only: bool,
    /// `HARD ` or `SOFT ` as it is to be repeated to a server, else empty.
    pub hardness: &'static str,
    /// Whom.
    pub victim: Victim,
}

/// Reads a text that is one KILL and nothing else. `None`: it is not, or it names its victim by what may do more than say a number.
pub fn parse(sql: &[u8], mode: LexMode) -> Option<KillStatement> {
    let found = tokens(sql, mode, TOKENS_MAX, |_, _| false)?;
    let mut cursor = Cursor::new(sql, &found);
    if !cursor.eat("KILL") {
        return None;
    }
    let hardness = if cursor.eat("HARD") {
        "HARD "
    } else if cursor.eat("SOFT") {
        "SOFT "
    } else {
        ""
    };
    let query_only = cursor.eat("QUERY");
    let by_query_id = query_only && cursor.eat("ID");
    if !query_only {
        cursor.eat("CONNECTION");
    }
    let number = |cursor: &mut Cursor<'_>| {
        let token = cursor.token(0).filter(|t| t.kind == TokenKind::Number)?;
        cursor.pos += 1;
        std::str::from_utf8(cursor.bytes(token)).ok()?.parse::<u64>().ok()
    };
    let victim = if by_query_id {
        number(&mut cursor)?;
        Victim::QueryId
    } else if cursor.eat("USER") {
        let token = cursor.token(0)?;
        match token.kind {
            TokenKind::String => {
                cursor.pos += 1;
                Victim::User(super::cursor::unquote(cursor.bytes(token)))
            }
            _ => Victim::User(cursor.name()?),
        }
    } else {
        let first = cursor.pos;
        match number(&mut cursor) {
            Some(id) if ends(cursor) => Victim::Thread(id),
            None if cursor.eat_kind(TokenKind::Param) && ends(cursor) => Victim::Parameter,
            _ => {
                cursor.pos = first;
                Victim::Expression(expression(&mut cursor)?)
            }
        }
    };
    ends(cursor).then_some(KillStatement { query_only, hardness, victim })
}

/// Whether nothing but semicolons is left.
fn ends(cursor: Cursor<'_>) -> bool {
    cursor.rest().iter().all(|token| token.kind == TokenKind::Semicolon)
}

/// Steps over all that comes before the end of the statement, which must be user variables and numbers, added, subtracted and multiplied:
/// whoever computes that changes nothing, neither data nor the connection it is computed on.
fn expression(cursor: &mut Cursor<'_>) -> Option<Vec<u8>> {
    let begin = cursor.token(0)?.start;
    let mut end = begin;
    while let Some(token) = cursor.token(0).filter(|token| token.kind != TokenKind::Semicolon) {
        let harmless = match token.kind {
            TokenKind::UserVar | TokenKind::Number | TokenKind::LParen | TokenKind::RParen => true,
            TokenKind::Op => matches!(cursor.bytes(token), b"+" | b"-" | b"*"),
            _ => false,
        };
        if !harmless {
            return None;
        }
        end = token.end;
        cursor.pos += 1;
    }
    cursor.text.get(begin..end).filter(|text| !text.is_empty()).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kill_in_all_its_forms() {
        let expression = |text: &str| Some((false, "", Victim::Expression(text.as_bytes().to_vec())));
        let user = |name: &str| Victim::User(name.to_owned());
        for (sql, meant) in [
            ("KILL 5", Some((false, "", Victim::Thread(5)))),
            ("kill connection 5 ;", Some((false, "", Victim::Thread(5)))),
            ("/* tool */ KILL QUERY 5", Some((true, "", Victim::Thread(5)))),
            ("KILL HARD QUERY 5", Some((true, "HARD ", Victim::Thread(5)))),
            ("KILL SOFT CONNECTION 5", Some((false, "SOFT ", Victim::Thread(5)))),
            ("KILL QUERY ID 5", Some((true, "", Victim::QueryId))),
            ("KILL USER app", Some((false, "", user("app")))),
            ("KILL QUERY USER 'app'", Some((true, "", user("app")))),
            ("KILL ?", Some((false, "", Victim::Parameter))),
            ("KILL QUERY ?", Some((true, "", Victim::Parameter))),
            ("KILL 18446744073709551615", Some((false, "", Victim::Thread(u64::MAX)))),
            ("KILL 99999999999999999999", expression("99999999999999999999")),
            ("KILL 1+1 ;", expression("1+1")),
            ("KILL @id", expression("@id")),
            ("KILL -1", expression("-1")),
            ("KILL CONNECTION (@id * 2) - 1", expression("(@id * 2) - 1")),
            // What might do more than say a number is the server's to refuse.
            ("KILL ? + 1", None),
            ("KILL CONNECTION (SELECT MAX(id) FROM t)", None),
            ("KILL @id := 5", None),
            ("KILL GET_LOCK('x', 0)", None),
            ("KILL 7, 8", None),
            ("KILL 7 FROM t FOR UPDATE", None),
            ("KILL @@pseudo_thread_id", None),
            ("KILL QUERY @id", Some((true, "", Victim::Expression(b"@id".to_vec())))),
            ("KILL @id; SELECT 1", None),
            ("KILL USER app@localhost", None),
            ("KILL 5; SELECT 1", None),
            ("KILL", None),
            ("KILL CONNECTION", None),
            ("SELECT 5", None),
        ] {
            let meant = meant.map(|(query_only, hardness, victim)| KillStatement { query_only, hardness, victim });
            assert_eq!(parse(sql.as_bytes(), LexMode::default()), meant, "{sql}");
        }
    }
}
