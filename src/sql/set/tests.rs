use super::*;

fn one(scope: Scope, name: &str, value: SetValue) -> Assignment {
    Assignment { scope, name: name.to_owned(), value, collation: None, bare: false }
}

fn literal(text: &str) -> SetValue {
    SetValue::Literal(text.as_bytes().to_vec())
}

fn expression(text: &str) -> SetValue {
    SetValue::Expression(text.as_bytes().to_vec())
}

#[test]
fn assignments() {
    let names = |charset: &str, collation: Option<&str>| Assignment {
        collation: collation.map(str::to_owned),
        ..one(Scope::Session, "names", literal(charset))
    };
    let table: Vec<(&str, Vec<Assignment>)> = vec![
        ("SET autocommit=0", vec![one(Scope::Session, "autocommit", literal("0"))]),
        ("set Session SQL_MODE := 'ANSI,x';", vec![one(Scope::Session, "sql_mode", literal("'ANSI,x'"))]),
        ("SET @@session.time_zone = '+00:00'", vec![one(Scope::Session, "time_zone", literal("'+00:00'"))]),
        ("SET @@a = -1", vec![one(Scope::Session, "a", literal("-1"))]),
        ("SET LOCAL a = DEFAULT", vec![one(Scope::Session, "a", SetValue::Default)]),
        (
            "SET a = ON, @b = 'x', GLOBAL c = 3, d = 4, @@session.e = 5",
            vec![
                one(Scope::Session, "a", literal("ON")),
                one(Scope::User, "b", literal("'x'")),
                one(Scope::Global, "c", literal("3")),
                one(Scope::Global, "d", literal("4")),
                one(Scope::Session, "e", literal("5")),
            ],
        ),
        (
            "SET @old = @@sql_mode, sql_mode = CONCAT(@@sql_mode, ',x')",
            vec![
                one(Scope::User, "old", expression("@@sql_mode")),
                one(Scope::Session, "sql_mode", expression("CONCAT(@@sql_mode, ',x')")),
            ],
        ),
        ("SET PERSIST_ONLY a = 1", vec![one(Scope::Persist, "a", literal("1"))]),
        ("SET GLOBAL hot.key_buffer_size = 1", vec![one(Scope::Global, "hot.key_buffer_size", literal("1"))]),
        ("SET NAMES utf8mb4", vec![names("utf8mb4", None)]),
        ("SET NAMES 'utf8mb4' COLLATE 'utf8mb4_bin'", vec![names("'utf8mb4'", Some("utf8mb4_bin"))]),
        ("SET NAMES DEFAULT", vec![one(Scope::Session, "names", SetValue::Default)]),
        ("SET CHARACTER SET latin1", vec![one(Scope::Session, "character set", literal("latin1"))]),
        ("SET CHARSET latin1", vec![one(Scope::Session, "character set", literal("latin1"))]),
        ("/*!40101 SET NAMES utf8 */", vec![names("utf8", None)]),
        (
            "/*!40101 SET @OLD_X=@@X, SQL_NOTES=0 */;",
            vec![one(Scope::User, "old_x", expression("@@X")), one(Scope::Session, "sql_notes", literal("0"))],
        ),
        ("SET a = (SELECT 1, 2)", vec![one(Scope::Session, "a", expression("(SELECT 1, 2)"))]),
        ("SET a = ?", vec![one(Scope::Session, "a", expression("?"))]),
    ];
    for (sql, expected) in table {
        let mut said = parse(sql.as_bytes(), LexMode::default());
        if let Some(SetStatement::Assignments(assignments)) = &mut said {
            for assignment in assignments {
                assert_eq!(assignment.bare, sql.contains(&format!("@@{}", assignment.name)), "{sql}");
                assignment.bare = false;
            }
        }
        assert_eq!(said, Some(SetStatement::Assignments(expected)), "{sql}");
    }
}

#[test]
fn the_other_kinds() {
    let transaction = |scope, access, isolation| Some(SetStatement::Transaction { scope, access, isolation });
    let table = [
        ("SET TRANSACTION READ ONLY", transaction(None, Access::ReadOnly, None)),
        (
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE",
            transaction(Some(Scope::Session), Access::ReadWrite, Some("READ-COMMITTED")),
        ),
        (
            "SET GLOBAL TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            transaction(Some(Scope::Global), Access::Unspecified, Some("SERIALIZABLE")),
        ),
        ("SET ROLE 'a', b", Some(SetStatement::Role(b"'a', b".to_vec()))),
        ("SET DEFAULT ROLE a TO b", Some(SetStatement::Account)),
        ("SET PASSWORD FOR 'a'@'b' = 'x'", Some(SetStatement::Account)),
        // not known
        ("SET STATEMENT max_statement_time = 1 FOR SELECT 1", None),
        ("SET TRANSACTION NONSENSE", None),
        ("SET", None),
        ("SET a", None),
        ("SET a = ", None),
        ("SET a = 1, ", None),
        ("SET a = 1; DROP TABLE t", None),
        ("SET a = 'x", None),
        ("/*!99999 SET a = 1 */", None),
        ("SELECT 1", None),
    ];
    for (sql, expected) in table {
        assert_eq!(parse(sql.as_bytes(), LexMode::default()), expected, "{sql}");
    }
}

#[test]
fn values_as_text() {
    assert_eq!(literal("'a''b'").as_text().as_deref(), Some("a'b"));
    assert_eq!(literal("ON").as_text().as_deref(), Some("ON"));
    assert_eq!(SetValue::Default.as_text(), None);
}
