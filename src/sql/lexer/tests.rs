use std::string::String as Text;

use super::TokenKind::*;
use super::*;

fn lexed(sql: &[u8], mode: LexMode) -> Vec<(TokenKind, Text)> {
    Lexer::new(sql, mode).map(|token| (token.kind, Text::from_utf8_lossy(&sql[token.start..token.end]).into_owned())).collect()
}

fn kinds(sql: &str) -> Vec<TokenKind> {
    Lexer::new(sql.as_bytes(), LexMode::default()).map(|token| token.kind).collect()
}

#[test]
fn where_tokens_begin_and_end() {
    let table: &[(&str, &[TokenKind])] = &[
        ("SELECT 1", &[Word, Number]),
        ("1e5 1e+5 1.5e-3 1. .5 0x1F 0b01", &[Number, Number, Number, Number, Number, Number, Number]),
        // Digits may begin a name; 0X is no hexadecimal prefix.
        ("1a 1e 0xg 0b2 0X41", &[Word, Word, Word, Word, Word]),
        ("1e+", &[Word, Op]),
        ("1.into", &[Number, Word]),
        ("t.1into", &[Word, Dot, Word]),
        ("t.5e1", &[Word, Dot, Word]),
        ("t .5", &[Word, Number]),
        ("`a``b` 'a''b' 'a\\'b' \"a\"", &[QuotedIdent, String, String, String]),
        ("N'a' x'41' B'1'", &[String, String, String]),
        ("1.e 1.5e+ 1.E-x", &[Bad, Bad, Bad, Word]),
        ("@a @`b c` @'d' @@e @@global.f @", &[UserVar, UserVar, UserVar, SysVar, SysVar, UserVar]),
        ("@a.b$1 @`é` 'x'@año", &[UserVar, UserVar, String, Bad, Word]),
        ("a-- b\nc", &[Word, Comment, Word]),
        ("1--1", &[Number, Op, Op, Number]),
        ("a--", &[Word, Comment]),
        ("a # b\nc", &[Word, Comment, Word]),
        ("/* a */ /**/ /*! b */ /*M! c */ /*+ d */", &[Comment, Comment, ExecComment, ExecComment, OptimizerHint]),
        ("/*/ a */", &[Comment]),
        ("/*/", &[Bad]),
        ("/*! '*/ '", &[Bad, Bad]),
        ("/*! a /* b */ */", &[Bad, Op, Op]),
        ("<=> <= <> != := || && -> ->> << >>", &[Op; 11]),
        ("? ; ( ) , .", &[Param, Semicolon, LParen, RParen, Comma, Dot]),
        ("\\N \\", &[Op, Bad]),
        ("'a", &[Bad]),
        ("'a\\", &[Bad]),
        ("\0", &[Bad]),
        ("$$", &[Bad]),
        ("a$b", &[Word]),
        ("--\u{e9}", &[Bad, Word]),
    ];
    for (sql, expected) in table {
        assert_eq!(kinds(sql), *expected, "{sql}");
    }
}

#[test]
fn characters_that_hide_a_quote() {
    let gbk = LexMode { charset: ByteCharset::Gbk, ..LexMode::default() };
    // The old injection: addslashes makes bf 5c 27 of bf 27, and bf 5c is one character.
    assert_eq!(lexed(b"'\xbf\x5c' x", gbk).len(), 2);
    assert_eq!(lexed(b"'\xbf\x5c' x", LexMode::default()).len(), 1);
    // bf 27 is no character: the quote counts.
    assert_eq!(lexed(b"'\xbf' x", gbk).len(), 2);
    let sjis = LexMode { charset: ByteCharset::Sjis, ..LexMode::default() };
    assert_eq!(lexed(b"`\x83\x60` x", sjis).len(), 2);
    let gb18030 = LexMode { charset: ByteCharset::Gb18030, ..LexMode::default() };
    assert_eq!(lexed(b"'\x81\x30\x81\x30\x81\x5c' x", gb18030).len(), 2);
    // A name in latin1 or ujis ends where it ends in UTF-8 too.
    assert_eq!(lexed(b"`pr\xe9nom` x", LexMode::default()).len(), 2);
    // Half a character before the closing quote of a name: servers swallow the quote.
    assert_eq!(lexed(b"`\xe2` x", LexMode::default()).first().map(|token| token.0), Some(Bad));
}

#[test]
fn versions_of_executable_comments() {
    let table: &[(&str, Option<u32>, &str)] = &[
        ("/*!40101 SET x */", Some(40101), " SET x "),
        ("/*!100100 a*/", Some(100_100), " a"),
        ("/*M!100100 a*/", Some(100_100), " a"),
        ("/*! a*/", None, " a"),
        ("/*!4010 a*/", None, "4010 a"),
        ("/*!*/", None, ""),
    ];
    for (comment, version, content) in table {
        assert_eq!(exec_content(comment.as_bytes()), (*version, content.as_bytes()), "{comment}");
    }
}

#[test]
fn statements_of_a_text() {
    let cut = |sql: &str| {
        statements(sql.as_bytes(), LexMode::default())
            .iter()
            .map(|s| Text::from_utf8_lossy(s).trim().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(cut("SELECT 1; ; SELECT ';' ; -- end"), ["SELECT 1", "SELECT ';'"]);
    assert!(cut(" ; -- nothing").is_empty());
}

#[test]
fn modes_from_names() {
    let mode = LexMode::from_sql_mode("STRICT_ALL_TABLES, ansi", ByteCharset::from_name("cp932"), Dialect::MySql);
    assert!(mode.ansi_quotes && mode.ignore_space && !mode.no_backslash_escapes);
    assert_eq!(mode.charset, ByteCharset::Sjis);
    assert_eq!(ByteCharset::from_collation_id(28), ByteCharset::Gbk);
    assert_eq!(ByteCharset::from_collation_id(1108), ByteCharset::Big5);
    assert_eq!(ByteCharset::from_collation_id(255), ByteCharset::SingleOrUtf8);
}
