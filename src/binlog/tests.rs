//! Logs of real servers (`fixtures.txt`): what they are read as, whole and cut anywhere; and that a broken one is told from a right one.

use std::sync::LazyLock;

use super::event::{HEADER_LEN, Query};
use super::fuzz::read;
use super::kin::{Kin, innodb_names};
use super::machine::{Broken, Change, Machine, Settings, Step, TABLES_MAX, What, Why};
use super::statement::{Said, said};
use super::{dump, payload, split};
use crate::topology::Flavor;
use crate::topology::gtid::GtidSet;

struct Fixture {
    what: String,
    flavor: Flavor,
    expected: String,
    wire: Vec<u8>,
}

impl Fixture {
    /// Bytes of the file's first event, which describes the others.
    fn format_len(&self) -> usize {
        u32::from_le_bytes(self.wire[9..13].try_into().expect("four bytes")) as usize
    }

    fn has_checksums(&self) -> bool {
        self.wire[self.format_len() - 5] == 1
    }
}

static FIXTURES: LazyLock<Vec<Fixture>> = LazyLock::new(|| {
    let lines = include_str!("fixtures.txt").lines().filter(|line| !line.starts_with('#'));
    let one = |line: &str| {
        let fields: Vec<&str> = line.split(" | ").collect();
        let &[server, format, statements, expected, hex] = fields.as_slice() else { panic!("{line:.200}") };
        Fixture {
            what: format!("{server}, {format}: {statements}"),
            flavor: if server == "mysql" { Flavor::MySql } else { Flavor::MariaDb },
            expected: expected.to_owned(),
            wire: (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).expect("hex")).collect(),
        }
    };
    lines.map(one).collect()
});

fn spell(steps: &[Step]) -> String {
    let change = |step: &Step| {
        let Step::Changed(change) = step else { return None };
        let mut text = match &change.what {
            What::Tables(tables) => tables.iter().map(|(s, t)| format!("{s}.{t}")).collect::<Vec<_>>().join(" "),
            What::Everything(why) => format!("!{why:?}"),
        };
        text += if change.by_statement { " +s" } else { "" };
        text += if change.definitions { " +d" } else { "" };
        Some(text)
    };
    steps.iter().filter_map(change).collect::<Vec<_>>().join("; ").trim().to_owned()
}

#[test]
fn logs_of_mysql_9_7_and_mariadb_10_11() {
    assert!(FIXTURES.len() > 80);
    let mut wrong = Vec::new();
    for Fixture { what, flavor, expected, wire, .. } in FIXTURES.iter() {
        let whole = read(*flavor, wire, wire.len());
        if whole.1.is_some() || spell(&whole.0) != *expected {
            wrong.push(format!("{what}\n    is {}, {:?}\n    and not {expected}", spell(&whole.0), whole.1));
        }
        let named = |step: &Step| !matches!(step, Step::Changed(Change { gtid: None, .. }));
        assert!(whole.0.iter().all(named), "{what}: every transaction has a name");
        for piece in (1..40).chain([61, 400]) {
            assert_eq!(read(*flavor, wire, piece), whole, "{what}: in pieces of {piece}");
        }
        for cut in 0..wire.len() {
            let (steps, broken) = read(*flavor, &wire[..cut], cut.max(1));
            assert_eq!(broken, None, "{what}: {cut} bytes");
            assert!(whole.0.starts_with(&steps), "{what}: {cut} bytes tell less, and nothing else");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A byte that changed on the way is never taken for another table.
#[test]
fn a_wrong_byte_is_told_by_the_checksum() {
    let with: Vec<&Fixture> = FIXTURES.iter().filter(|fixture| fixture.has_checksums()).collect();
    assert!(with.len() > 60 && with.len() < FIXTURES.len());
    for fixture in with {
        let Fixture { what, flavor, wire, .. } = fixture;
        let whole = read(*flavor, wire, wire.len());
        for at in fixture.format_len()..wire.len() {
            let mut bytes = wire.clone();
            bytes[at] ^= 0x10;
            let (mut m, mut steps) = (machine(*flavor), Vec::new());
            let noticed = m.push(&bytes, &mut steps).and_then(|()| m.end_of_packet()).is_err();
            assert!(whole.0.starts_with(&steps), "{what}: byte {at}: {steps:?}");
            assert!(noticed, "{what}: byte {at}");
        }
    }
}

/// Any byte may be any other, where nothing tells: nothing panics.
#[test]
fn broken_logs_are_read_without_a_panic() {
    let mut seed = 0x2545_F491_4F6C_DD1Du64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for fixture in FIXTURES.iter() {
        let Fixture { flavor, wire, .. } = fixture;
        for _ in 0..60 {
            let mut bytes = wire.clone();
            for _ in 0..=random() % 4 {
                let at = random() as usize % bytes.len();
                bytes[at] = random() as u8;
            }
            // Without its algorithm in the format no checksum is looked at, and what is broken is decoded.
            bytes[fixture.format_len() - 5] = 0;
            read(*flavor, &bytes, 1 + random() as usize % 300);
        }
    }
}

#[test]
fn the_corpus_of_the_fuzz_target() {
    crate::protocol::fuzz::run_corpus("binlog", super::fuzz::events);
}

fn machine(flavor: Flavor) -> Machine {
    let ignored = Some(("sluice".to_owned(), "heartbeat".to_owned()));
    Machine::new(Settings { flavor, lower: false, ignored }, GtidSet::empty(flavor))
}

/// An event without a checksum.
fn event(kind: u8, flags: u16, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(HEADER_LEN + body.len()).expect("a small event");
    [&7u32.to_le_bytes()[..], &[kind], &1u32.to_le_bytes(), &len.to_le_bytes(), &900u32.to_le_bytes(), &flags.to_le_bytes(), body]
        .concat()
}

fn map(id: u8, schema: &str, table: &str) -> Vec<u8> {
    let name = |name: &str| [&[u8::try_from(name.len()).expect("short")][..], name.as_bytes(), &[0]].concat();
    event(19, 0, &[&[id, 0, 0, 0, 0, 0, 1, 0][..], &name(schema), &name(table)].concat())
}

fn rows(id: u8) -> Vec<u8> {
    event(30, 0, &[id, 0, 0, 0, 0, 0, 1, 0, 2, 0])
}

fn gtid(number: u8) -> Vec<u8> {
    event(33, 0, &[&[1][..], &[0xAA; 16], &[number, 0, 0, 0, 0, 0, 0, 0]].concat())
}

fn query(schema: &str, text: &str) -> Vec<u8> {
    let fixed = [0, 0, 0, 0, 0, 0, 0, 0, schema.len() as u8, 0, 0, 0, 0];
    event(2, 0, &[&fixed[..], schema.as_bytes(), &[0], text.as_bytes()].concat())
}

fn xid() -> Vec<u8> {
    event(16, 0, &[0; 8])
}

fn told(machine: &mut Machine, events: &[Vec<u8>]) -> String {
    let mut steps = Vec::new();
    for event in events {
        machine.push(event, &mut steps).expect("events");
        machine.end_of_packet().expect("whole events");
    }
    spell(&steps)
}

#[test]
fn a_transaction_is_told_at_its_end_and_moves_the_position() {
    let mut m = machine(Flavor::MySql);
    let begin = || query("", "BEGIN");
    assert_eq!(told(&mut m, &[gtid(1), begin(), map(1, "s", "a"), map(2, "s", "b"), rows(1)]), "");
    assert_eq!(m.position().to_string(), "");
    // The connection breaks: what was cut comes again, and until then was nothing.
    m.reconnected(Settings { flavor: Flavor::MySql, lower: false, ignored: None });
    assert_eq!(
        told(&mut m, &[gtid(1), begin(), map(1, "s", "a"), rows(1), xid()]),
        "s.a",
        "a table that is only mapped has not changed"
    );
    assert_eq!(m.position().to_string(), "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:1");
    // Rows of a table nobody has named, of the log's own no table, of grants, of the heartbeat.
    let mut m = machine(Flavor::MySql);
    assert_eq!(told(&mut m, &[gtid(2), begin(), rows(9), xid()]), "!UnknownTables");
    assert_eq!(told(&mut m, &[gtid(3), begin(), event(30, 0, &[0xFF, 0xFF, 0xFF, 0, 0, 0, 1, 0]), xid()]), "");
    assert_eq!(told(&mut m, &[gtid(4), begin(), map(3, "mysql", "db"), rows(3), xid()]), "!Grants");
    assert_eq!(told(&mut m, &[gtid(5), begin(), map(3, "sluice", "heartbeat"), rows(3), xid()]), "");
    assert_eq!(m.position().to_string(), "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:2-5");
    assert!(!m.saw_unnamed());
    // One that has no end before the next begins; one without a name.
    assert_eq!(told(&mut m, &[gtid(6), begin(), map(1, "s", "a"), rows(1), gtid(7), begin(), xid()]), "s.a;");
    assert_eq!(told(&mut m, &[event(34, 0, &[0; 25]), begin(), map(1, "s", "a"), rows(1), xid()]), "s.a");
    assert!(m.saw_unnamed());
    let elsewhere = GtidSet::parse(Flavor::MySql, "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:1-90").expect("a set");
    m.jump(elsewhere.clone());
    assert_eq!((m.position(), m.saw_unnamed(), m.newest()), (&elsewhere, false, 7));
}

#[test]
fn what_is_not_known_is_everything() {
    let begin = || query("", "BEGIN");
    let mut m = machine(Flavor::MySql);
    assert_eq!(told(&mut m, &[gtid(1), begin(), event(99, 0, b"new"), xid()]), "!Missed");
    assert_eq!(told(&mut m, &[gtid(2), begin(), event(99, 0x80, b"new, and of no importance"), xid()]), "");
    assert_eq!(told(&mut m, &[gtid(3), event(26, 0, &[1, 0, 0])]), "!Missed", "the server lost some of its log");
    // A packed transaction that cannot be unpacked, or by something new.
    assert_eq!(told(&mut m, &[gtid(4), event(40, 0, &[0])]), "!UnknownTables");
    assert_eq!(told(&mut m, &[gtid(5), event(40, 0, &[1, 1, 2, 2, 1, 7, 0, 1, 2])]), "!UnknownTables");
    assert_eq!(told(&mut m, &[gtid(6), event(40, 0, &[1, 1, 2, 2, 1, 0, 0, 1, 2])]), "!UnknownTables");
    // Not packed at all is a way to pack.
    let inside = [query("", "BEGIN"), map(1, "s", "a"), rows(1), xid()].concat();
    let packed = |inside: &[u8]| {
        event(40, 0, &[&[1, 1, u8::try_from(inside.len()).expect("short"), 2, 3, 0xFC, 255, 0, 0][..], inside].concat())
    };
    assert_eq!(told(&mut m, &[gtid(7), packed(&inside)]), "s.a");
    assert_eq!(told(&mut m, &[gtid(8), packed(&inside[..inside.len() - 27])]), "!UnknownTables", "without its end");
    assert_eq!(told(&mut m, &[gtid(9), packed(&inside[..inside.len() - 1])]), "!UnknownTables", "cut");
    assert_eq!(m.position().to_string(), "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:1-9", "each ends with its event");
    // A prepared transaction that was prepared before anybody looked.
    assert_eq!(told(&mut m, &[gtid(10), query("", "XA COMMIT X'61',X'',1")]), "!UnknownTables +s".trim_end_matches(" +s"));
    let lens: [Result<(), Broken>; 2] = [18, 22].map(|len: u32| {
        let mut bytes = event(16, 0, &[]);
        bytes[9..13].copy_from_slice(&len.to_le_bytes());
        machine(Flavor::MySql).push(&bytes, &mut Vec::new())
    });
    assert!(matches!(lens, [Err(Broken::Impossible(_)), Ok(())]), "{lens:?}");
}

#[test]
fn too_many_tables_are_everything() {
    let mut what = What::nothing();
    for n in 0..TABLES_MAX {
        what.add(("s".to_owned(), n.to_string()));
    }
    assert!(matches!(&what, What::Tables(tables) if tables.len() == TABLES_MAX));
    what.add(("s".to_owned(), "0".to_owned()));
    assert!(matches!(what, What::Tables(_)));
    what.add(("s".to_owned(), "one more".to_owned()));
    assert_eq!(what, What::Everything(Why::UnknownTables));
    what.add_everything(Why::Ddl);
    assert_eq!(what, What::Everything(Why::UnknownTables), "the first reason stays");
}

/// An event of any length costs the memory of what is looked at.
#[test]
fn long_events_are_not_kept() {
    let mut m = machine(Flavor::MySql);
    assert_eq!(told(&mut m, &[gtid(1), query("", "BEGIN"), map(1, "s", "big")]), "");
    let mut head = rows(1);
    let body = 1u32 << 30;
    let len = head.len() as u32 + body;
    head[9..13].copy_from_slice(&len.to_le_bytes());
    let mut steps = Vec::new();
    m.push(&head, &mut steps).expect("a header");
    let zeros = vec![0; 1 << 20];
    for _ in 0..1 << 10 {
        m.push(&zeros, &mut steps).expect("rows");
    }
    assert_eq!(told(&mut m, &[xid()]), "s.big");
    // A statement longer than is kept.
    let mut head = query("s", "INSERT INTO a VALUES ('");
    let body = split::TEXT_KEPT_MAX as u32;
    let len = head.len() as u32 + body;
    head[9..13].copy_from_slice(&len.to_le_bytes());
    m.push(&gtid(2), &mut steps).expect("a name");
    m.push(&query("", "BEGIN"), &mut steps).expect("a begin");
    m.push(&head, &mut steps).expect("a header");
    for _ in 0..split::TEXT_KEPT_MAX >> 20 {
        m.push(&zeros, &mut steps).expect("a text");
    }
    assert_eq!(told(&mut m, &[xid()]), "!UnknownTables");
}

#[test]
fn what_is_packed_is_unpacked_up_to_a_limit() {
    use std::io::Write;
    let zlib = |text: &[u8]| {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).expect("memory");
        encoder.finish().expect("memory")
    };
    let header = |len: u32| [&[0x84][..], &len.to_be_bytes()].concat();
    let text = b"UPDATE a SET b = 1";
    let ok = [header(18), zlib(text)].concat();
    assert_eq!(payload::inflate(&ok).as_deref(), Ok(&text[..]));
    for (what, packed) in [
        ("nothing", vec![]),
        ("no mark", [vec![4, 0, 0, 0, 18], zlib(text)].concat()),
        ("another algorithm", [vec![0x94, 0, 0, 0, 18], zlib(text)].concat()),
        ("no length", [vec![0x80], zlib(text)].concat()),
        ("more than it says", [header(17), zlib(text)].concat()),
        ("less than it says", [header(19), zlib(text)].concat()),
        ("cut", ok[..ok.len() - 6].to_vec()),
        ("a bomb", [header(u32::MAX), zlib(text)].concat()),
        ("a hidden bomb", [header(5), zlib(&vec![0; 1 << 22])].concat()),
    ] {
        assert!(payload::inflate(&packed).is_err(), "{what}");
    }
    // A transaction that unpacks to more than is looked at.
    let chunk = vec![0u8; 1 << 20];
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("zstd");
    for _ in 0..=payload::UNPACKED_MAX >> 20 {
        encoder.write_all(&chunk).expect("memory");
    }
    let packed = encoder.finish().expect("memory");
    let len = u32::try_from(packed.len()).expect("small").to_le_bytes();
    let body = [&[1, 4, 0xFD, len[0], len[1], len[2], 2, 1, 0, 0][..], &packed].concat();
    let mut seen = 0;
    let result = payload::transaction(&body, |piece| {
        seen += piece.len() as u64;
        Ok(())
    });
    assert_eq!(result, Err(payload::PayloadError::TooLong(payload::UNPACKED_MAX)));
    assert!(seen <= payload::UNPACKED_MAX);
}

#[test]
fn statements_and_what_they_change() {
    let tables = |names: &str| -> Vec<(String, String)> {
        let one = |name: &str| name.split_once('.').map(|(s, t)| (s.to_owned(), t.to_owned())).expect("schema.table");
        names.split_whitespace().map(one).collect()
    };
    let rows = |names: &str| Said::Rows(tables(names));
    let defined = |names: &str| Said::Defined(tables(names), false);
    let unknown = || Said::Everything(Why::UnknownTables);
    let (ddl, grants) = (|| Said::Everything(Why::Ddl), || Said::Everything(Why::Grants));
    let long = format!("INSERT INTO a VALUES ('{}')", "x".repeat(1 << 20));
    let table: Vec<(&str, Said)> = vec![
        ("BEGIN", Said::Begin),
        ("COMMIT", Said::End),
        ("ROLLBACK", Said::End),
        ("SAVEPOINT `x`", Said::Nothing),
        ("ROLLBACK TO `x`", Said::Nothing),
        ("XA START X'61',X'',1", Said::XaBegin),
        ("XA END X'61',X'',1", Said::Nothing),
        ("XA COMMIT X'61',X'',1", Said::XaEnd("x'61',x'',1".to_owned())),
        ("XA ROLLBACK X'61',X'',1", Said::XaEnd("x'61',x'',1".to_owned())),
        ("INSERT INTO a (n) VALUES (1)", rows("d.a")),
        ("/* from app */ insert into `b-c`.a values (1)", rows("b-c.a")),
        ("INSERT a SET n = NOW()", rows("d.a")),
        ("INSERT INTO a VALUES (f(1))", unknown()),
        ("INSERT INTO a VALUES (x.f(1))", unknown()),
        ("INSERT INTO a (f) SELECT f(n) FROM b", unknown()),
        ("INSERT INTO a SELECT NEXTVAL(q)", unknown()),
        ("INSERT INTO a VALUES (NAME_CONST('v', 1), LAST_INSERT_ID(), COALESCE(NULL, (1)))", rows("d.a")),
        ("REPLACE INTO x.a SELECT n FROM y.b WHERE n IN (SELECT n FROM c)", rows("d.c x.a y.b")),
        ("UPDATE a SET n = IF(n > 1, (2), LOWER('x'))", rows("d.a")),
        ("UPDATE a SET n = f (1)", unknown()),
        ("DELETE FROM a WHERE n = 1", rows("d.a")),
        ("DELETE FROM a WHERE n = 'it''s \\' FROM b'", rows("d.a")),
        (&long, rows("d.a")),
        ("LOAD DATA LOCAL INFILE '/tmp/x' INTO TABLE `a` FIELDS TERMINATED BY ',' (`n`)", rows("d.a")),
        ("LOAD DATA INFILE 'x' INTO TABLE a (n) SET m = f()", unknown()),
        ("SELECT `d`.`f`(1)", unknown()),
        ("CALL p()", unknown()),
        ("TRUNCATE TABLE a", defined("d.a")),
        ("truncate x.a", defined("x.a")),
        ("CREATE TABLE IF NOT EXISTS a (n INT)", defined("d.a")),
        ("CREATE TABLE `a` (n INT) START TRANSACTION", Said::Defined(tables("d.a"), true)),
        ("CREATE OR REPLACE TABLE a LIKE b", defined("d.a")),
        ("CREATE TABLE a SELECT f()", unknown()),
        ("CREATE TEMPORARY TABLE a (n INT)", Said::Nothing),
        ("DROP /*!40005 TEMPORARY */ TABLE IF EXISTS `a`", Said::Nothing),
        ("DROP TABLE IF EXISTS `a`,`x`.`b` /* generated by server */", defined("d.a x.b")),
        ("ALTER TABLE a ADD COLUMN to_b INT, RENAME COLUMN n TO m", defined("d.a")),
        ("ALTER TABLE a RENAME x.b", defined("d.a x.b")),
        ("ALTER TABLE a RENAME TO b, ADD KEY (n)", defined("d.a d.b")),
        ("ALTER TABLE a EXCHANGE PARTITION p WITH TABLE x.b", defined("d.a x.b")),
        ("RENAME TABLE a TO b, x.c TO d", defined("d.a d.b x.c d.d")),
        ("CREATE UNIQUE INDEX i USING BTREE ON a (n)", defined("d.a")),
        ("DROP INDEX i ON x.a", defined("x.a")),
        ("CREATE SEQUENCE q", defined("d.q")),
        ("CREATE ALGORITHM=UNDEFINED DEFINER=`r`@`%` SQL SECURITY DEFINER VIEW `v` AS select 1", ddl()),
        (
            "CREATE DEFINER=`r`@`%` TRIGGER t AFTER INSERT ON a FOR EACH ROW BEGIN INSERT INTO b VALUES (1); DELETE FROM c; END",
            ddl(),
        ),
        ("CREATE DEFINER=`r`@`%` FUNCTION `f`() RETURNS int RETURN 1", ddl()),
        ("DROP PROCEDURE p", ddl()),
        ("ALTER EVENT e DISABLE", ddl()),
        ("CREATE DATABASE x", ddl()),
        ("DROP SCHEMA IF EXISTS x", ddl()),
        ("ALTER DATABASE x CHARACTER SET utf8mb4", ddl()),
        ("GRANT SELECT ON *.* TO x", grants()),
        ("REVOKE ALL ON *.* FROM x", grants()),
        ("CREATE USER x", grants()),
        ("ALTER USER x ACCOUNT LOCK", grants()),
        ("DROP ROLE r", grants()),
        ("RENAME USER x TO y", grants()),
        ("SET PASSWORD FOR x = 'y'", grants()),
        ("SET DEFAULT ROLE r FOR x", grants()),
        ("FLUSH PRIVILEGES", grants()),
        ("FLUSH TABLES", Said::Nothing),
        ("ANALYZE TABLE a", Said::Nothing),
        ("REPAIR TABLE a", unknown()),
        ("ALTER INSTANCE ROTATE INNODB MASTER KEY", unknown()),
        ("", unknown()),
        ("INSERT INTO a VALUES ('no end", unknown()),
        ("INSERT INTO \u{fffd} VALUES (1)", unknown()),
    ];
    let mut wrong = Vec::new();
    for (text, expected) in table {
        let query = Query { schema: b"d", text: text.as_bytes().into(), sql_mode: 0, charset: Some(45) };
        let mut got = said(&query, Flavor::MariaDb, false);
        if let Said::Rows(tables) = &mut got {
            tables.sort();
        }
        if got != expected {
            wrong.push(format!("{text:.100}\n    is {got:?}\n    and not {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn names_depend_on_the_session_and_the_server() {
    let say = |schema: &str, text: &[u8], sql_mode, charset, lower| {
        said(&Query { schema: schema.as_bytes(), text: text.into(), sql_mode, charset: Some(charset) }, Flavor::MySql, lower)
    };
    let rows = |schema: &str, table: &str| Said::Rows(vec![(schema.to_owned(), table.to_owned())]);
    let unknown = Said::Everything(Why::UnknownTables);
    assert_eq!(say("D", b"DELETE FROM A", 0, 45, false), rows("D", "A"));
    assert_eq!(say("D", b"DELETE FROM A", 0, 45, true), rows("d", "a"));
    assert_eq!(say("", b"DELETE FROM a", 0, 45, false), unknown, "no default schema");
    // ANSI_QUOTES: names in double quotes, which the parser is not asked about.
    assert_eq!(say("d", b"TRUNCATE \"a\"", 4, 45, false), Said::Defined(vec![("d".into(), "a".into())], false));
    assert_eq!(say("d", b"DELETE FROM a WHERE s = 'x\\'", 1 << 20, 45, false), rows("d", "a"), "NO_BACKSLASH_ESCAPES");
    assert_eq!(say("d", b"DELETE FROM a WHERE s = 'x\\'", 0, 45, false), unknown);
    // A name in another character set cannot be compared; a schema's is UTF-8 always.
    assert_eq!(say("d", "TRUNCATE süß".as_bytes(), 0, 45, false), Said::Defined(vec![("d".into(), "süß".into())], false));
    assert_eq!(say("d", b"TRUNCATE s\xfc\xdf", 0, 8, false), unknown);
    assert_eq!(say("d", "TRUNCATE süß".as_bytes(), 0, 8, false), unknown);
    assert_eq!(say("süß", b"TRUNCATE a", 0, 8, false), Said::Defined(vec![("süß".into(), "a".into())], false));
}

#[test]
fn tables_that_change_along() {
    let t = |name: &str| ("s".to_owned(), name.to_owned());
    let change = |names: &[&str], by_statement| {
        let what = What::Tables(names.iter().map(|name| t(name)).collect());
        Change { what, gtid: None, by_statement, definitions: false, end: (String::new(), 0) }
    };
    let is = |names: &[&str]| What::Tables(names.iter().map(|name| t(name)).collect());
    let unknown = What::Everything(Why::UnknownTables);
    let kin = Kin::default().with_children([(t("b"), t("a")), (t("c"), t("b")), (t("a"), t("c")), (t("y"), t("x"))]);
    assert_eq!(kin.widen(&change(&["a"], false)), is(&["a", "b", "c"]), "in a circle");
    assert_eq!(kin.widen(&change(&["q", "x"], false)), is(&["q", "x", "y"]));
    assert_eq!(kin.widen(&change(&["q"], true)), unknown, "triggers and views are not known");
    assert_eq!(kin.widen(&change(&[], true)), What::nothing());
    let kin = kin.with_indirect([t("v")]);
    assert_eq!(kin.widen(&change(&["q"], true)), is(&["q"]));
    assert_eq!(kin.widen(&change(&["q", "v"], true)), unknown);
    let child_fires = kin.clone().with_indirect([t("y")]);
    assert_eq!(child_fires.widen(&change(&["x"], true)), unknown, "a child's triggers may fire in a cascade");
    assert_eq!(kin.widen(&change(&["q", "v"], false)), is(&["q", "v"]), "where rows are logged, those of triggers are");
    assert_eq!(Kin::default().widen(&change(&["q"], false)), unknown, "foreign keys are not known");
    let many = Kin::default().with_children((0..=TABLES_MAX).map(|n| (t(&n.to_string()), t("a"))));
    assert_eq!(many.widen(&change(&["a"], false)), unknown);
    assert_eq!(innodb_names("s/a"), [t("a")]);
    assert_eq!(innodb_names("s/a/b"), [t("a/b"), ("s/a".to_owned(), "b".to_owned())]);
    assert!(innodb_names("a").is_empty());
}

#[test]
fn how_a_log_is_asked_for() {
    assert_eq!(dump::from_place(0xF000_0001, "b.1", 158).unwrap(), b"\x12\x9e\0\0\0\x01\0\x01\0\0\xf0b.1");
    assert_eq!(dump::from_place(1, "b.1", 1 << 32), None);
    let ask = |flavor, position: &str| dump::Dump {
        flavor,
        server: 0xF000_0001,
        uuid: "u".to_owned(),
        heartbeat_ns: 250_000_000,
        position: GtidSet::parse(flavor, position).expect("a position"),
    };
    let mariadb = ask(Flavor::MariaDb, "0-1-15");
    assert!(mariadb.settings().contains(&"SET @slave_connect_state = '0-1-15'".to_owned()));
    assert_eq!(mariadb.command(), [0x12, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0xF0]);
    let uuid = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa";
    let mysql = ask(Flavor::MySql, &format!("{uuid}:1-5:9"));
    let head = [&[0x1E, 4, 0, 1, 0, 0, 0xF0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0][..]].concat();
    let number = |n: u64| n.to_le_bytes();
    let plain = [&number(1)[..], &[0xAA; 16], &number(2), &number(1), &number(6), &number(9), &number(10)].concat();
    assert_eq!(mysql.command(), [&head[..], &64u32.to_le_bytes(), &plain].concat());
    // As `PREVIOUS_GTIDS` of MySQL 9.7 has it.
    let tagged = ask(Flavor::MySql, "9f2d0fdc-e907-11f1-bb36-02fc00000001:1-10:tag1:1").command();
    let hex: String = tagged[23..].iter().map(|byte| format!("{byte:02x}")).collect();
    let captured = "01020000000000019f2d0fdce90711f1bb3602fc0000000100010000000000000001000000000000000b00000000000000\
                    9f2d0fdce90711f1bb3602fc0000000108746167310100000000000000010000000000000002000000000000\
                    00";
    assert_eq!(hex, captured.replace(' ', ""));
    for dump in [mariadb, mysql] {
        assert!(!dump.settings().iter().any(|sql| sql.contains("semi_sync")), "no commit waits for this reader");
        assert_eq!(dump.register()[..5], [0x15, 1, 0, 0, 0xF0]);
    }
}
