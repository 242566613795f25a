use super::*;
use crate::sql::hint::HintTarget;

fn text(sql: &str) -> String {
    let mut buf = DigestBuf::default();
    digest(sql.as_bytes(), LexMode::default(), &mut buf);
    String::from_utf8_lossy(&buf.text).into_owned()
}

#[test]
fn what_a_digest_keeps() {
    let table = [
        ("SELECT c FROM sbtest1 WHERE id=5023", "SELECT c FROM sbtest1 WHERE id = ?"),
        ("SELECT  c\n\tFROM sbtest1 -- x\nWHERE id = 'a''b\\'c' ;", "SELECT c FROM sbtest1 WHERE id = ?"),
        ("SELECT 1", "SELECT ?"),
        ("SELECT -1, +1.5e3, .5, 0x41, x'41', N'a', b'1'", "SELECT - ?, + ?, ?, ?, ?, ?, ?"),
        ("SELECT 'a' 'b' \"c\"", "SELECT ?"),
        ("SELECT * FROM t WHERE a IN (1, 2, 3)", "SELECT * FROM t WHERE a IN (?)"),
        ("SELECT * FROM t WHERE a IN(1)", "SELECT * FROM t WHERE a IN (?)"),
        ("SELECT * FROM t WHERE (a,b) IN ((1,2),(3,4),(5,6))", "SELECT * FROM t WHERE (a, b) IN ((?))"),
        ("INSERT INTO t (a,b) VALUES (1,'x'),(2,NULL),(-3,TRUE)", "INSERT INTO t (a, b) VALUES (?)"),
        ("INSERT INTO t VALUES (1,NOW()),(2,NOW()),(3,NOW())", "INSERT INTO t VALUES (?, NOW())"),
        ("INSERT INTO t VALUES (1,NOW()),(2,UUID())", "INSERT INTO t VALUES (?, NOW()), (?, UUID())"),
        ("SELECT CONCAT('a', 'b', c)", "SELECT CONCAT(?, ?, c)"),
        ("SELECT a.b, `c d`.`e`, @x, @@global.y", "SELECT a.b, `c d`.`e`, @x, @@global.y"),
        ("SELECT a . b, a. b", "SELECT a. b, a. b"),
        ("SELECT COUNT(*), COUNT (*), COUNT/**/(*)", "SELECT COUNT(*), COUNT (*), COUNT (*)"),
        ("SELECT 1.into", "SELECT ? into"),
        ("SELECT /*+ X(1) */ a /* c */ FROM /*!50000 t */", "SELECT /*+ X(1) */ a FROM /*!50000 t */"),
        ("SELECT a IS NULL, NULL", "SELECT a IS NULL, NULL"),
        ("SELECT 1; SELECT 2;", "SELECT ?; SELECT ?"),
        ("SELECT a->>'$.b', a := 1, b<=>2, c||d", "SELECT a ->> ?, a := ?, b <=> ?, c || d"),
        ("SELECT '", "SELECT \\ "),
    ];
    for (sql, expected) in table {
        let found = text(sql);
        assert_eq!(found.trim_end(), expected.trim_end(), "{sql}");
        assert_eq!(text(&found).trim_end(), found.trim_end(), "again: {sql}");
    }
}

#[test]
fn hints_are_found_and_are_no_part_of_it() {
    let mut buf = DigestBuf::default();
    digest(b"SELECT 1", LexMode::default(), &mut buf);
    let plain = buf.hash;
    digest(b"/* sluice: master */ SELECT /* sluice: nocache */ 2", LexMode::default(), &mut buf);
    assert_eq!((buf.hash, buf.statements), (plain, 1));
    assert_eq!(buf.hint.as_ref().and_then(|hint| hint.target.clone()), Some(HintTarget::Master));
    digest(b"SELECT '/* sluice: master */'", LexMode::default(), &mut buf);
    assert_eq!(buf.hint, None);
}

#[test]
fn a_text_without_end_is_cut() {
    let mut buf = DigestBuf::default();
    digest("a ".repeat(MAX_DIGEST_BYTES).as_bytes(), LexMode::default(), &mut buf);
    assert!(buf.truncated && buf.text.len() <= MAX_DIGEST_BYTES + 8 && buf.text.first() == Some(&BAD));
}
