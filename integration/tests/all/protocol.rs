//! Everything a server offers is offered, and whatever a client agrees upon, it is told what the server would tell it, packet
//! by packet.

use integration::accounts::APP;
use integration::flavour::Flavour;
use integration::proxy::Proxy;
use integration::wire::{BASE, Seen, Wire};
use mysql_async::prelude::Queryable;
use mysql_async::{Compression, Conn, SslOpts, WhiteListFsHandler};
use sluice::frontend::login::NOT_OFFERED;
use sluice::protocol::Capabilities;
use sluice::protocol::reply::Expect;

use crate::world::{cluster, flavour, pair, proxy, same, schema};

/// What a client of today asks for, by family; `SESSION_TRACK` is looked at by itself, since through Sluice more is tracked.
pub fn modern() -> Capabilities {
    let both = Capabilities::DEPRECATE_EOF
        | Capabilities::MULTI_STATEMENTS
        | Capabilities::MULTI_RESULTS
        | Capabilities::PS_MULTI_RESULTS
        | Capabilities::LOCAL_FILES;
    match flavour() {
        Flavour::MariaDb => {
            both | Capabilities::MARIADB_EXTENDED_METADATA
                | Capabilities::MARIADB_STMT_BULK_OPERATIONS
                | Capabilities::MARIADB_PROGRESS
        }
        Flavour::MySql => both | Capabilities::OPTIONAL_RESULTSET_METADATA | Capabilities::QUERY_ATTRIBUTES,
    }
}

fn db1() -> u16 {
    cluster().server("db1").port()
}

async fn both(wanted: Capabilities) -> (Wire, Wire) {
    let (through, direct) = (Wire::login(proxy().port(), wanted).await.unwrap(), Wire::login(db1(), wanted).await.unwrap());
    assert_eq!(through.capabilities, direct.capabilities, "the same is agreed upon");
    (through, direct)
}

/// Runs a statement on both and requires the same packets.
async fn alike(through: &mut Wire, direct: &mut Wire, sql: &str) -> Vec<Seen> {
    let expected = direct.query(sql).await.unwrap();
    let seen = through.query(sql).await.unwrap();
    assert!(seen == expected, "{sql:.200}\nthrough Sluice {seen:?}\nat the server {expected:?}");
    seen
}

async fn ask_alike(
    through: &mut Wire,
    direct: &mut Wire,
    what: &str,
    command: impl Fn(u32) -> Vec<u8>,
    expect: Expect,
) -> Vec<Seen> {
    let expected = direct.ask(&command(direct.statement), expect).await.unwrap();
    let seen = through.ask(&command(through.statement), expect).await.unwrap();
    assert!(seen == expected, "{what}\nthrough Sluice {seen:?}\nat the server {expected:?}");
    seen
}

#[tokio::test]
async fn what_the_servers_offer_is_offered() {
    let direct = Wire::greeting(db1()).await.unwrap();
    let through = Wire::greeting(proxy().port()).await.unwrap();
    let declined = NOT_OFFERED.iter().fold(Capabilities::SSL, |all, (flag, _)| all | *flag);
    assert_eq!(through.capabilities - declined, direct.capabilities - declined);
    assert_eq!(through.capabilities & declined, Capabilities::SSL, "TLS by a certificate of our own");
    assert_eq!((through.version, through.collation), (direct.version, direct.collation));
}

#[tokio::test]
async fn each_capability_alone_and_all_together() {
    let schema = schema("protocol_caps").await;
    let mut sets = vec![Capabilities::NONE, modern(), modern() - Capabilities::DEPRECATE_EOF];
    for bit in 0..64 {
        let flag = Capabilities(1 << bit);
        if modern().has(flag) || [Capabilities::FOUND_ROWS, Capabilities::SESSION_TRACK].contains(&flag) {
            sets.push(flag);
        }
    }
    let types = match flavour() {
        Flavour::MariaDb => "u UUID, i INET6, j JSON, p POINT",
        Flavour::MySql => "u BINARY(16), i VARBINARY(16), j JSON, p POINT",
    };
    for (n, wanted) in sets.into_iter().enumerate() {
        let (mut through, mut direct) = both(wanted).await;
        for wire in [&mut through, &mut direct] {
            wire.query(&format!("USE {schema}")).await.unwrap();
        }
        direct.query(&format!("CREATE TABLE t{n} (id INT AUTO_INCREMENT PRIMARY KEY, word VARCHAR(9), {types})")).await.unwrap();
        direct.query(&format!("INSERT INTO t{n} (word, j) VALUES ('one', '[1]'), ('two', NULL)")).await.unwrap();
        cluster().settle().await.unwrap();
        for sql in [
            "SELECT 1, 'a', NULL",
            &format!("SELECT * FROM t{n} ORDER BY id"),
            &format!("SELECT * FROM t{n} WHERE id = 0"),
            &format!("UPDATE t{n} SET word = word"),
            "SELECT nothing",
            "SELECT 1; SELECT 2",
            "DO 1",
            &format!("INSERT IGNORE INTO t{n} (id, word) VALUES (1, 'again')"),
            "SHOW WARNINGS",
        ] {
            // A table has one name in the statement and rows of its own.
            alike(&mut through, &mut direct, sql).await;
        }
        for sql in
            ["SELECT ?, word FROM t WHERE id = 1".replace(" t ", &format!(" t{n} ")), "DO 1".to_owned(), "SELEKT ?".to_owned()]
        {
            let (here, there) = (through.prepare(&sql).await.unwrap(), direct.prepare(&sql).await.unwrap());
            assert_eq!(here, there, "PREPARE {sql} with {wanted:?}");
        }
        through.prepare("SELECT 1, 'x'").await.unwrap();
        direct.prepare("SELECT 1, 'x'").await.unwrap();
        let execute = |id: u32| [&[0x17][..], &id.to_le_bytes(), &[0, 1, 0, 0, 0]].concat();
        ask_alike(&mut through, &mut direct, "EXECUTE", execute, Expect::Execute).await;
        ask_alike(&mut through, &mut direct, "FIELD_LIST", |_| b"\x04t0\0".to_vec(), Expect::FieldList).await;
        ask_alike(&mut through, &mut direct, "PING", |_| vec![0x0e], Expect::Simple).await;
        ask_alike(&mut through, &mut direct, "SET_OPTION", |_| vec![0x1b, 0, 0], Expect::Simple).await;
        alike(&mut through, &mut direct, "SELECT 1; SELECT 2").await;
    }
}

#[tokio::test]
async fn definitions_that_a_session_does_not_want() {
    if flavour() != Flavour::MySql {
        return mariadb_has_typed_columns().await;
    }
    let (mut through, mut direct) = both(modern()).await;
    alike(&mut through, &mut direct, "SET resultset_metadata = NONE").await;
    for sql in
        ["SELECT id, name FROM shop.items WHERE id < 3 ORDER BY id", "SELECT 1, 2", "SHOW WARNINGS", "SELECT LAST_INSERT_ID()"]
    {
        let seen = alike(&mut through, &mut direct, sql).await;
        assert!(matches!(&seen[0], Seen::Bytes(count) if count.len() == 2 && count[1] == 0), "{sql}: {seen:?}");
    }
    let (here, there) = (through.prepare("SELECT ?, 1").await.unwrap(), direct.prepare("SELECT ?, 1").await.unwrap());
    assert_eq!(here, there);
    alike(&mut through, &mut direct, "SET resultset_metadata = FULL").await;
    let seen = alike(&mut through, &mut direct, "SELECT 1").await;
    assert!(matches!(&seen[0], Seen::Bytes(count) if count == b"\x01\x01"), "{seen:?}");
}

/// MariaDB's extended metadata: the type's name stands in the definition.
async fn mariadb_has_typed_columns() {
    let schema = schema("protocol_typed").await;
    let (mut through, mut direct) = both(modern()).await;
    direct.query(&format!("CREATE TABLE {schema}.t (u UUID, i INET6, j JSON)")).await.unwrap();
    cluster().settle().await.unwrap();
    let seen = alike(&mut through, &mut direct, &format!("SELECT * FROM {schema}.t")).await;
    for (n, name) in [(1, "uuid"), (2, "inet6"), (3, "json")] {
        let Seen::Bytes(definition) = &seen[n] else { panic!("{seen:?}") };
        assert!(definition.windows(name.len()).any(|w| w == name.as_bytes()), "{name}: {seen:?}");
    }
}

/// A COM_QUERY with one attribute, a string.
pub fn with_attribute(name: &str, value: &str, sql: &str) -> Vec<u8> {
    let mut out = vec![0x03, 1, 1, 0, 1, 0xfe, 0, name.len() as u8];
    out.extend_from_slice(name.as_bytes());
    out.push(value.len() as u8);
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(sql.as_bytes());
    out
}

#[tokio::test]
async fn attributes_go_along_with_their_statements() {
    if flavour() != Flavour::MySql {
        // MariaDB has none: it does not offer them, and a client that insists is answered as there.
        let (through, _) = both(Capabilities::QUERY_ATTRIBUTES).await;
        assert!(!through.capabilities.has(Capabilities::QUERY_ATTRIBUTES));
        return;
    }
    cluster().server("db1").run(&["INSTALL COMPONENT 'file://component_query_attributes'"]).await.unwrap();
    let (mut through, mut direct) = both(modern()).await;
    for sql in [
        "SELECT 1",
        "SELECT @@server_id > 0, COUNT(*) FROM shop.items",
        "SET @x = 5",
        "SELECT @x",
        "SELECT mysql_query_attribute_string('traceparent')",
        "SELECT nothing",
        "BEGIN",
        "SELECT name FROM shop.items WHERE id = 1 LOCK IN SHARE MODE",
        "COMMIT",
        "SELECT 1; SELECT 2",
        "INSERT INTO shop.nothing VALUES (1)",
        "SHOW WARNINGS",
        // Into these something is put before they are sent on.
        "SELECT name FROM shop.items WHERE id = SIGN(CONNECTION_ID())",
        "SELECT mysql_query_attribute_string('traceparent') FROM shop.items WHERE id = SIGN(CONNECTION_ID())",
        "SET @rows = ROW_COUNT() + 5",
        "SELECT @rows > 0",
        "SELECT COUNT(*) FROM information_schema.processlist WHERE id = 1073741825",
    ] {
        let command = with_attribute("traceparent", "00-4bf92f3577b34da6-01", sql);
        let seen = ask_alike(&mut through, &mut direct, sql, |_| command.clone(), Expect::Query).await;
        if sql.contains("mysql_query_attribute_string") {
            assert!(seen.contains(&Seen::Bytes(b"\x1600-4bf92f3577b34da6-01".to_vec())), "{seen:?}");
        }
    }
    // Attributes do not hide what a statement is: this read goes to a replica.
    let where_am_i = with_attribute("traceparent", "x", crate::world::WHERE_AM_I);
    let seen = through.ask(&where_am_i, Expect::Query).await.unwrap();
    let replicas = [b"\x012", b"\x013", b"\x014"].map(|row| Seen::Bytes(row.to_vec()));
    assert!(seen.iter().any(|packet| replicas.contains(packet)), "{seen:?}");
    // Executions: parameter and attribute, with types, then the parameter alone with the types that were sent.
    through.prepare("SELECT ?, mysql_query_attribute_string('a')").await.unwrap();
    direct.prepare("SELECT ?, mysql_query_attribute_string('a')").await.unwrap();
    through.prepare("SELECT ? + 1").await.unwrap();
    direct.prepare("SELECT ? + 1").await.unwrap();
    let typed =
        |id: u32| [&[0x17][..], &id.to_le_bytes(), b"\x08\x01\0\0\0\x02\x00\x01\x03\0\0\xfe\0\x01a\x07\0\0\0\x02hi"].concat();
    let again = |id: u32| [&[0x17][..], &id.to_le_bytes(), b"\x08\x01\0\0\0\x01\x00\x00\x09\0\0\0"].concat();
    ask_alike(&mut through, &mut direct, "typed", typed, Expect::Execute).await;
    ask_alike(&mut through, &mut direct, "again", again, Expect::Execute).await;
    ask_alike(&mut through, &mut direct, "damaged", |_| b"\x03\x05\x02\x01".to_vec(), Expect::Query).await;
}

#[tokio::test]
async fn bulk_executions() {
    let schema = schema("protocol_bulk").await;
    let (mut through, mut direct) = both(modern()).await;
    for (wire, table) in [(&mut through, "a"), (&mut direct, "b")] {
        wire.query(&format!("CREATE TABLE {schema}.{table} (id INT PRIMARY KEY, word VARCHAR(9))")).await.unwrap();
        wire.prepare(&format!("INSERT INTO {schema}.{table} VALUES (?, ?)")).await.unwrap();
    }
    let bulk = |id: u32, flags: u16, rest: &[u8]| [&[0xfa][..], &id.to_le_bytes(), &flags.to_le_bytes(), rest].concat();
    // Types LONG and VAR_STRING; rows (1, 'one'), (2, NULL).
    let typed = |id: u32| bulk(id, 128, b"\x03\0\xfd\0\0\x01\0\0\0\0\x03one\0\x02\0\0\0\x01");
    let untyped = |id: u32| bulk(id, 0, b"\0\x03\0\0\0\0\x05three\0\x04\0\0\0\x01");
    let seen = ask_alike(&mut through, &mut direct, "typed", typed, Expect::Execute).await;
    if flavour() == Flavour::MySql {
        assert!(matches!(&seen[..], [Seen::Err(1047, ..)]), "{seen:?}");
        return;
    }
    assert!(matches!(&seen[..], [Seen::Ok(2, ..)]), "{seen:?}");
    // Sluice knows the types where a connection has not seen them.
    through.ask(&untyped(through.statement), Expect::Execute).await.unwrap();
    let duplicates = through.ask(&typed(through.statement), Expect::Execute).await.unwrap();
    assert!(matches!(&duplicates[..], [Seen::Err(1062, ..)]), "{duplicates:?}");
    let rows = direct.query(&format!("SELECT COUNT(*), SUM(id) FROM {schema}.a")).await.unwrap();
    assert!(rows.contains(&Seen::Bytes(b"\x014\x0210".to_vec())), "{rows:?}");
    // "Direct" execution of the statement prepared last, sent together with its PREPARE.
    through.send(&[b"\x16", format!("INSERT INTO {schema}.a VALUES (?, ?)").as_bytes()].concat()).await.unwrap();
    through.send(&bulk(u32::MAX, 128, b"\x03\0\xfd\0\0\x09\0\0\0\0\x04nine")).await.unwrap();
    through.reply(Expect::Prepare).await.unwrap();
    assert!(matches!(&through.reply(Expect::Execute).await.unwrap()[..], [Seen::Ok(1, ..)]));
}

#[tokio::test]
async fn progress_reports_come_through() {
    let schema = schema("protocol_progress").await;
    let (mut through, _) = both(modern()).await;
    if flavour() == Flavour::MySql {
        assert_eq!(through.capabilities.mariadb_bits(), 0, "MySQL has none");
        return;
    }
    through.query(&format!("USE {schema}")).await.unwrap();
    through.query("SET progress_report_time = 1").await.unwrap();
    let make =
        format!("CREATE TABLE {schema}.t (id INT PRIMARY KEY, pad CHAR(200) DEFAULT 'x') AS SELECT seq AS id FROM seq_1_to_300000");
    through.query(&make).await.unwrap();
    for _ in 0..8 {
        let seen = through.query(&format!("ALTER TABLE {schema}.t FORCE, ALGORITHM = COPY")).await.unwrap();
        assert!(matches!(seen.last(), Some(Seen::Ok(..))), "{seen:?}");
        if seen.contains(&Seen::Progress) {
            let seen = through.query("SELECT 1").await.unwrap();
            assert_eq!(seen.len(), 4, "the session goes on: {seen:?}");
            return;
        }
    }
    panic!("no statement was long enough for a report");
}

#[tokio::test]
async fn collations_of_more_than_a_byte() {
    let (low, high) = match flavour() {
        Flavour::MariaDb => (8, 1024 + 33), // utf8mb3_general_nopad_ci
        Flavour::MySql => (46, 303),        // utf8mb4_ja_0900_as_cs
    };
    let sql = "SELECT @@character_set_client, @@collation_connection, @@character_set_results";
    for collation in [45, low, high, 255, 0, 9999] {
        let mut direct = Wire::login_with(db1(), BASE, collation, None).await.unwrap();
        let mut through = Wire::login_with(proxy().port(), BASE, collation, None).await.unwrap();
        let (here, there) = (through.query(sql).await.unwrap(), direct.query(sql).await.unwrap());
        assert_eq!(here.iter().rev().nth(1), there.iter().rev().nth(1), "handshake with collation {collation}");
    }
    for collation in [45u16, low, high, 255] {
        // COM_CHANGE_USER has two bytes for it.
        let change = [b"\x11nopass\0\0\0", &collation.to_le_bytes()[..], b"mysql_native_password\0"].concat();
        let (mut through, mut direct) = both(modern()).await;
        for wire in [&mut through, &mut direct] {
            wire.change_user(&change).await.unwrap();
        }
        alike(&mut through, &mut direct, sql).await;
    }
}

/// What a session does whose stream is compressed, on either side.
async fn busy(conn: &mut Conn, direct: &mut Conn, schema: &str, table: &str) {
    conn.query_drop(format!("CREATE TABLE {schema}.{table} (id INT PRIMARY KEY, data LONGBLOB)")).await.unwrap();
    for sql in ["SELECT 1", "SELECT REPEAT('sluice ', 200000)", "SELECT * FROM shop.items", "SELECT 1; SELECT 2; SELEKT", "DO 1"] {
        same(conn, direct, sql).await;
    }
    let data: Vec<u8> = (0..20u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    conn.exec_drop(format!("INSERT INTO {schema}.{table} VALUES (?, ?)"), (1, &data)).await.unwrap();
    let back: Vec<u8> = conn.exec_first(format!("SELECT data FROM {schema}.{table} WHERE id = ?"), (1,)).await.unwrap().unwrap();
    assert!(back == data, "20 MiB of noise");
    conn.query_drop("SET NAMES utf8mb4, @a = 1, SESSION group_concat_max_len = 2000").await.unwrap();
    for _ in 0..20 {
        let row: (u32, u32) = conn.query_first("SELECT @a, @@group_concat_max_len").await.unwrap().unwrap();
        assert_eq!(row, (1, 2000));
    }
}

fn trusting() -> SslOpts {
    SslOpts::default().with_danger_accept_invalid_certs(true).with_danger_skip_domain_validation(true)
}

#[tokio::test]
async fn compressed_clients() {
    let schema = schema("protocol_compressed").await;
    for (table, tls) in [("plain", None), ("tls", Some(trusting()))] {
        let options = proxy().options(APP).compression(Compression::default()).ssl_opts(tls);
        let mut conn = proxy().connect_with(options).await.unwrap();
        let (_, mut direct) = pair(&schema).await;
        busy(&mut conn, &mut direct, &schema, table).await;
    }
    let file = std::env::temp_dir().join(format!("sluice-packed-{}.csv", std::process::id()));
    std::fs::write(&file, (0..50_000).map(|n| format!("{n}\tline {n}\n")).collect::<String>()).unwrap();
    let options = proxy().options(APP).compression(Compression::default());
    let options = options.local_infile_handler(Some(WhiteListFsHandler::new([file.clone()])));
    let mut conn = proxy().connect_with(options).await.unwrap();
    conn.query_drop(format!("CREATE TABLE {schema}.load_it (id INT PRIMARY KEY, line VARCHAR(30))")).await.unwrap();
    conn.query_drop(format!("LOAD DATA LOCAL INFILE '{}' INTO TABLE {schema}.load_it", file.display())).await.unwrap();
    assert_eq!(conn.affected_rows(), 50_000);
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn every_way_of_compressing_is_the_servers() {
    let ways =
        [(Capabilities::COMPRESS, None), (Capabilities::ZSTD_COMPRESSION, Some(3)), (Capabilities::ZSTD_COMPRESSION, Some(19))];
    for (way, level) in ways {
        let wanted = modern() | way;
        let mut through = Wire::login_with(proxy().port(), wanted, 45, level).await.unwrap();
        let mut direct = Wire::login_with(db1(), wanted, 45, level).await.unwrap();
        assert_eq!(through.capabilities, direct.capabilities);
        let zstd = way == Capabilities::ZSTD_COMPRESSION;
        assert_eq!(through.capabilities.has(way), !zstd || flavour() == Flavour::MySql, "{way:?}");
        for sql in [
            "SELECT 1",
            "SELECT REPEAT('a', 100000)",
            "SELECT 1; SELECT 2",
            &format!("SELECT LENGTH('{}')", "x".repeat(300_000)),
            "SELECT * FROM shop.items a, shop.items b",
            "SELECT nothing",
        ] {
            alike(&mut through, &mut direct, sql).await;
        }
        // Connector/J goes on with the number of the piece; servers do not look at it.
        let attributes: &[u8] = if through.capabilities.has(Capabilities::QUERY_ATTRIBUTES) { &[0, 1] } else { &[] };
        let select = [b"\x03", attributes, b"SELECT 'a number of its own'"].concat();
        let odd: Vec<u8> = [&[select.len() as u8, 0, 0, 1], &select[..]].concat();
        if through.capabilities.has(way) {
            for wire in [&mut through, &mut direct] {
                wire.send_bytes(&odd).await.unwrap();
            }
            let seen = through.reply(Expect::Query).await.unwrap();
            assert_eq!(seen, direct.reply(Expect::Query).await.unwrap());
        }
        let change = b"\x11nopass\0\0\0\x2d\0mysql_native_password\0";
        through.change_user(change).await.unwrap();
        assert_eq!(through.query("SELECT 1").await.unwrap(), direct.query("SELECT 1").await.unwrap(), "still compressed");
    }
}

#[tokio::test]
async fn compressed_servers() {
    let schema = schema("protocol_packed_servers").await;
    for way in ["zlib", "zstd"] {
        let proxy = Proxy::before(cluster()).every_server("compression", &format!("{way:?}")).start().await.unwrap();
        let mut conn = proxy.connect("shop").await.unwrap();
        let (_, mut direct) = pair("shop").await;
        busy(&mut conn, &mut direct, &schema, way).await;
        // Asked so, a server tells of its own connection.
        let on = "SHOW SESSION STATUS WHERE Variable_name = 'Compression'";
        let on: (String, String) = conn.query_first(on).await.unwrap().unwrap();
        let offered = way == "zlib" || flavour() == Flavour::MySql;
        assert_eq!(on.1, if offered { "ON" } else { "OFF" }, "{way}");
        // Plain clients check the numbers of packets; the servers number those of compressed replies otherwise.
        let (mut through, mut at_server) =
            (Wire::login(proxy.port(), modern()).await.unwrap(), Wire::login(db1(), modern()).await.unwrap());
        for sql in ["SELECT 1; SELECT REPEAT('x', 40000); SELECT 2; SELEKT", "SELECT * FROM shop.items a, shop.items b"] {
            alike(&mut through, &mut at_server, sql).await;
        }
        let file = std::env::temp_dir().join(format!("sluice-{way}-{}.csv", std::process::id()));
        std::fs::write(&file, (0..50_000).map(|n| format!("{n}\tline {n}\n")).collect::<String>()).unwrap();
        let options = proxy.options(APP).local_infile_handler(Some(WhiteListFsHandler::new([file.clone()])));
        let mut conn = proxy.connect_with(options).await.unwrap();
        conn.query_drop(format!("CREATE TABLE {schema}.load_{way} (id INT PRIMARY KEY, line VARCHAR(30))")).await.unwrap();
        conn.query_drop(format!("LOAD DATA LOCAL INFILE '{}' INTO TABLE {schema}.load_{way}", file.display())).await.unwrap();
        assert_eq!(conn.affected_rows(), 50_000);
        std::fs::remove_file(file).unwrap();
        // Clients that are compressed themselves, over compressed servers.
        let options = proxy.options(APP).compression(Compression::default());
        let mut conn = proxy.connect_with(options).await.unwrap();
        let long: String = conn.query_first("SELECT REPEAT('sluice ', 200000)").await.unwrap().unwrap();
        assert_eq!(long.len(), 1_400_000);
    }
}

/// Bug: a client with `SESSION_TRACK` was told all that Sluice has servers track for itself: that something changed, GTIDs, every variable.
#[tokio::test]
async fn who_does_not_ask_is_told_of_the_session_what_the_server_tells() {
    let schema = crate::world::schema("protocol_tracked").await;
    let wanted = Capabilities::SESSION_TRACK | Capabilities::MULTI_STATEMENTS;
    let mut through = Wire::login(proxy().port(), wanted).await.unwrap();
    let mut direct = Wire::login(cluster().server("db1").port(), wanted).await.unwrap();
    let using = format!("USE {schema}");
    for sql in [
        "SET @a = 1",
        &using,
        "CREATE TABLE IF NOT EXISTS t (id INT)",
        "SET time_zone = '+01:00'",
        "SET sql_mode = ''",
        "SET NAMES latin1",
        "SET autocommit = 0",
        "COMMIT",
        "SET @a = 1; SET @b = 2",
        "SELECT 1",
    ] {
        let ends = [through.query(sql).await.unwrap(), direct.query(sql).await.unwrap()];
        assert!(ends.iter().all(|seen| !matches!(seen.last(), Some(Seen::Err(..)))), "{sql}: {ends:?}");
        // MariaDB tells of several variables in an order that depends on how many it tracks.
        let told = |wire: &Wire| {
            let mut told: Vec<_> = sluice::protocol::session_track::changes(&wire.tracked).map(|c| format!("{c:?}")).collect();
            told.sort();
            told
        };
        assert_eq!(told(&through), told(&direct), "{sql}");
    }
    // Who asks is told.
    for wire in [&mut through, &mut direct] {
        wire.query("SET session_track_state_change = ON").await.unwrap();
        wire.query("SET @c = 3").await.unwrap();
        assert!(wire.tracked.windows(3).any(|entry| entry == [2, 1, b'1']), "{}", wire.tracked.escape_ascii());
    }
}

/// Bug: a result of more columns than 65,535, which MySQL sends, was taken for nonsense, and the connection for lost.
#[tokio::test]
async fn a_result_of_more_columns_than_sixteen_bits_count() {
    let sql = format!("SELECT {}2", "1,".repeat(68_000));
    let mut told = Vec::new();
    for port in [cluster().server("db1").port(), proxy().port()] {
        let mut wire = Wire::login(port, Capabilities::DEPRECATE_EOF).await.unwrap();
        told.push(format!("{:?}", wire.query(&sql).await.unwrap()));
        told.push(format!("{:?}", wire.query("SELECT 1").await.unwrap()));
    }
    assert!(told[0] == told[2] && told[1] == told[3], "{}", &told[2][..told[2].len().min(500)]);
}

/// A client is told of its own connection, not of the one between Sluice and the server: a driver asks so whether it is safe.
#[tokio::test]
async fn a_client_is_told_whether_its_own_connection_has_tls_and_is_compressed() {
    let mysql = flavour() == Flavour::MySql;
    for (tls, compressed) in [(false, false), (true, false), (false, true), (true, true)] {
        let ssl = SslOpts::default().with_danger_accept_invalid_certs(true);
        let options = proxy().options(APP).db_name(Some("shop")).ssl_opts(tls.then_some(ssl));
        let options = if compressed { options.compression(Compression::default()) } else { options };
        let mut conn = proxy().connect_with(options).await.unwrap();
        let mut told = async |pattern: &str| -> Vec<(String, String)> {
            conn.query(format!("SHOW SESSION STATUS LIKE '{pattern}'")).await.unwrap()
        };
        let row = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        assert_eq!(told("ssl_version").await, row("Ssl_version", if tls { "TLSv1.3" } else { "" }));
        let cipher = told("Ssl_cipher").await;
        assert_eq!((cipher.len(), cipher[0].0.as_str(), cipher[0].1.starts_with("TLS_")), (1, "Ssl_cipher", tls), "{cipher:?}");
        assert!(told("ssl%").await.contains(&cipher[0]));
        let (on, algorithm) = if compressed { ("ON", "zlib") } else { ("OFF", "") };
        assert_eq!(told("compression").await, row("Compression", on));
        if mysql {
            assert_eq!(told("compression_algorithm").await, row("Compression_algorithm", algorithm));
            assert_eq!(told("compression_level").await, row("Compression_level", if compressed { "6" } else { "0" }));
        }
    }
}
