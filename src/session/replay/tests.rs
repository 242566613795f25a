use super::*;
use crate::sql::classify::classify;
use crate::sql::lexer::{Dialect, LexMode};
use crate::topology::gtid::MariaDbState;

fn statement(sql: &str) -> Classified {
    classify(sql.as_bytes(), LexMode { dialect: Dialect::MariaDb, ..LexMode::default() })
}

fn step(sql: &str) -> Result<Step<()>, &'static str> {
    repeatable(&statement(sql))?;
    Ok(Step {
        sent: Sent::Command(sql.as_bytes().into()),
        insert_id: None,
        expect: Expect::Query,
        sum: Checksum::default().finish(),
    })
}

/// A session that runs these, each with whether a transaction is open after it.
fn run(record: &mut Record<()>, statements: &[(&str, bool)]) {
    let mut open = false;
    for (sql, after) in statements {
        record.ran(&statement(sql), Open { before: open, after: *after }, step(sql));
        open = *after;
    }
}

fn texts(record: &Record<()>) -> Result<Vec<String>, &'static str> {
    let text = |step: &Step<()>| match &step.sent {
        Sent::Command(payload) => String::from_utf8_lossy(payload).into_owned(),
        Sent::Execute { .. } => unreachable!("not in here"),
    };
    record.steps().map(|steps| steps.iter().map(text).collect())
}

#[test]
fn what_is_remembered_is_the_open_transaction_and_nothing_before_it() {
    for (statements, left) in [
        (vec![("BEGIN", true), ("INSERT INTO t VALUES (1)", true)], Ok(vec!["BEGIN", "INSERT INTO t VALUES (1)"])),
        (vec![("BEGIN", true), ("INSERT INTO t VALUES (1)", true), ("COMMIT", false)], Err("it was not recorded")),
        // Each of these begins a new one, whatever was open before.
        (vec![("BEGIN", true), ("INSERT INTO t VALUES (1)", true), ("BEGIN", true)], Ok(vec!["BEGIN"])),
        (
            vec![("BEGIN", true), ("UPDATE t SET a = 1", true), ("COMMIT AND CHAIN", true), ("UPDATE t SET a = 2", true)],
            Ok(vec!["COMMIT AND CHAIN", "UPDATE t SET a = 2"]),
        ),
        (
            vec![("BEGIN", true), ("SAVEPOINT a", true), ("UPDATE t SET a = 1", true), ("ROLLBACK TO a", true)],
            Ok(vec!["BEGIN", "SAVEPOINT a", "UPDATE t SET a = 1", "ROLLBACK TO a"]),
        ),
        // autocommit = 0
        (vec![("SELECT * FROM t", true), ("UPDATE t SET a = 1", true)], Ok(vec!["SELECT * FROM t", "UPDATE t SET a = 1"])),
        (vec![("BEGIN", true), ("CALL p()", true)], Err("it called a procedure, or what it did cannot be told by its text")),
        (vec![("BEGIN", true), ("SELECT 1; SELECT 2", true)], Err("one of its texts held several statements")),
    ] {
        let mut record = Record::default();
        run(&mut record, &statements);
        assert_eq!(texts(&record), left.map(|texts| texts.into_iter().map(str::to_owned).collect()), "{statements:?}");
    }
    let mut late = Record::default();
    late.ran(&statement("UPDATE t SET a = 1"), Open { before: true, after: true }, step("UPDATE t SET a = 1"));
    assert_eq!(texts(&late), Err("it was not recorded from its beginning"));
}

#[test]
fn it_does_not_grow_beyond_its_limits() {
    let long = format!("INSERT INTO t VALUES ('{}')", "x".repeat(10_000));
    let mut record = Record::default();
    run(&mut record, &[("BEGIN", true)]);
    for n in 0..BYTES_MAX / 10_000 + 1 {
        record.ran(&statement(&long), Open { before: true, after: true }, step(&long));
        assert!(record.bytes <= BYTES_MAX, "after {n}");
    }
    assert_eq!((texts(&record), record.bytes), (Err("it is longer than what is remembered"), 0));
    let mut record = Record::default();
    run(&mut record, &[("BEGIN", true)]);
    for _ in 0..STATEMENTS_MAX {
        record.ran(&statement("SELECT 1"), Open { before: true, after: true }, step("SELECT 1"));
    }
    assert_eq!(texts(&record), Err("it is longer than what is remembered"));
    run(&mut record, &[("COMMIT", false), ("BEGIN", true)]);
    assert_eq!(texts(&record), Ok(vec!["BEGIN".to_owned()]), "the next one is recorded again");
}

#[test]
fn a_checksum_is_of_the_answer_and_not_of_how_it_was_cut() {
    let of = |pieces: &[&[u8]]| {
        let mut sum = Checksum::default();
        pieces.iter().for_each(|piece| sum.rows(piece));
        sum.finish()
    };
    assert_eq!(of(&[b"abc", b"def"]), of(&[b"a", b"bcde", b"f"]));
    assert_ne!(of(&[b"abc"]), of(&[b"abd"]));
    let with = |act: &dyn Fn(&mut Checksum)| {
        let mut sum = Checksum::default();
        act(&mut sum);
        sum.finish()
    };
    assert_ne!(with(&|sum| sum.ok(1, 0)), with(&|sum| sum.ok(2, 0)));
    assert_ne!(with(&|sum| sum.ok(1, 7)), with(&|sum| sum.ok(1, 8)));
    assert_ne!(with(&|sum| sum.error(1062)), with(&|sum| sum.error(1205)));
}

#[test]
fn what_may_commit() {
    for (sql, is_read, alone, inside) in [
        ("COMMIT", false, true, true),
        ("ROLLBACK TO a", false, true, false),
        ("INSERT INTO t VALUES (1)", false, true, false),
        ("SELECT 1", true, false, false),
        ("CREATE TABLE t (a INT)", false, true, true),
        ("CALL p()", false, true, true),
        ("BEGIN", false, true, true),
    ] {
        let told = [false, true].map(|open| may_commit(&statement(sql), is_read, open));
        assert_eq!(told, [alone, inside], "{sql}");
    }
}

fn new_master(flavor: Flavor, id: u32, set: &str) -> Facts {
    Facts {
        server_uuid: format!("0000000{id}-0000-0000-0000-000000000000"),
        server_id: id,
        gtid_executed: match flavor {
            Flavor::MySql => GtidSet::parse(flavor, set).ok().map(Arc::new),
            Flavor::MariaDb => Some(Arc::new(GtidSet::empty(flavor))),
        },
        gtid_state: MariaDbState::parse(set).ok().map(Arc::new).filter(|_| flavor == Flavor::MariaDb),
        ..Facts::bare(flavor)
    }
}

#[test]
fn a_lost_commit_is_absent_when_the_new_master_has_nothing_that_it_could_be() {
    let (one, two) = ("00000001-0000-0000-0000-000000000000", "00000002-0000-0000-0000-000000000000");
    for (flavor, known, has, absent) in [
        (Flavor::MariaDb, "0-1-100", "0-1-100", true),
        (Flavor::MariaDb, "0-1-100", "0-1-98", true),
        // Written on the new master since.
        (Flavor::MariaDb, "0-1-100", "0-1-100,0-2-140", true),
        // It may be this one.
        (Flavor::MariaDb, "0-1-100", "0-1-101,0-2-140", false),
        (Flavor::MariaDb, "0-1-100", "0-1-100,7-1-1", false),
        (Flavor::MariaDb, "", "", false),
    ] {
        let known_set = GtidSet::parse(flavor, known).unwrap();
        assert_eq!(surely_absent(&known_set, &new_master(flavor, 2, has)), absent, "{known} / {has}");
    }
    for (known, has, absent) in [
        (format!("{one}:1-100"), format!("{one}:1-100,{two}:1-9"), true),
        (format!("{one}:1-100"), format!("{one}:1-99"), true),
        (format!("{one}:1-100"), format!("{one}:1-101"), false),
        // The hole may be it.
        (format!("{one}:1-98:100"), format!("{one}:1-100"), false),
    ] {
        let known_set = GtidSet::parse(Flavor::MySql, &known).unwrap();
        assert_eq!(surely_absent(&known_set, &new_master(Flavor::MySql, 2, &has)), absent, "{known} / {has}");
    }
    let other = GtidSet::parse(Flavor::MariaDb, "0-1-100").unwrap();
    assert!(!surely_absent(&other, &new_master(Flavor::MySql, 2, "")), "two flavours");
}
