//! The evaluator, as a table of questions and answers over the made-up house of the admin's tests.

use super::super::tests::{Model, shown};
use super::super::{Answer, Kind, Value};
use super::*;

fn answer(sql: &str) -> Result<Table, AdminError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(select(sql, &Session::default(), &Model::default()))
}

fn ask(sql: &str) -> String {
    match answer(sql) {
        Ok(table) => shown(&Answer::Table(table)),
        Err(error) => shown(&Answer::Error(error)),
    }
}

#[test]
fn a_table_is_read_once_however_often_it_is_named() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for (sql, count, reads) in [
        ("SELECT COUNT(*) FROM servers, Servers b, sluice.SERVERS c WHERE 3 = (SELECT COUNT(*) FROM servers)", "27", 1),
        ("SELECT COUNT(*) FROM servers, information_schema.processlist, processlist p", "3", 1),
        ("SELECT COUNT(*) FROM mysql_servers, Mysql_Servers b, runtime_mysql_servers, servers", "81", 1),
    ] {
        let house = Model::default();
        let table = runtime.block_on(select(sql, &Session::default(), &house)).unwrap();
        assert_eq!(shown(&Answer::Table(table)), format!("COUNT(*) | {count}"), "{sql}");
        assert_eq!(house.read.load(std::sync::atomic::Ordering::Relaxed), reads, "{sql}");
    }
}

#[test]
fn questions() {
    for (sql, wanted) in [
        ("SELECT name FROM servers", "name | db1 | db2 | db3"),
        ("SELECT NAME, Lag_Ms FROM SERVERS s WHERE s.lag_ms IS NOT NULL", "name lag_ms | db2 12 | db3 7"),
        ("SELECT name FROM sluice.servers WHERE lag_ms > 10 OR role = 'MASTER'", "name | db1 | db2"),
        ("SELECT name FROM servers WHERE NOT (role = 'master')", "name | db2 | db3"),
        ("SELECT name FROM servers WHERE lag_ms <> 12", "name | db3"),
        ("SELECT name FROM servers WHERE name LIKE 'DB_' AND name NOT LIKE '%1'", "name | db2 | db3"),
        ("SELECT name FROM servers WHERE name REGEXP '[23]$'", "name | db2 | db3"),
        ("SELECT name FROM servers WHERE name IN ('db1', 'db3', 'x')", "name | db1 | db3"),
        ("SELECT name FROM servers WHERE queries BETWEEN 70 AND 100", "name | db1 | db2"),
        ("SELECT name FROM servers ORDER BY queries DESC LIMIT 2", "name | db3 | db1"),
        ("SELECT name FROM servers ORDER BY queries LIMIT 1 OFFSET 1", "name | db1"),
        ("SELECT name FROM servers ORDER BY 1 DESC LIMIT 1, 1", "name | db2"),
        ("SELECT name, queries * 2 AS twice FROM servers ORDER BY twice DESC", "name twice | db3 600 | db1 200 | db2 140"),
        ("SELECT lag_ms FROM servers ORDER BY lag_ms", "lag_ms | NULL | 7 | 12"),
        ("SELECT COUNT(*) FROM servers", "COUNT(*) | 3"),
        (
            "SELECT count(lag_ms), sum(queries), min(name), max(queries), avg(lag_ms) FROM servers",
            "count(lag_ms) sum(queries) min(name) max(queries) avg(lag_ms) | 2 470 db1 300 9.5",
        ),
        ("SELECT COUNT(*) AS n, MAX(lag_ms) FROM servers WHERE name = 'none'", "n MAX(lag_ms) | 0 NULL"),
        (
            "SELECT class, count(*) AS n, sum(count) FROM statements GROUP BY class ORDER BY n DESC",
            "class n sum(count) | read 2 15 | write 1 2",
        ),
        ("SELECT class FROM statements GROUP BY 1 HAVING count(*) > 1", "class | read"),
        ("SELECT name AS n FROM servers HAVING n='db1'", "n | db1"),
        ("SELECT name AS role FROM servers WHERE lag_ms > 0 OR lag_ms IS NULL HAVING Role <> 'db1' AND lag_ms < 10", "role | db3"),
        ("SELECT queries * 2 AS q FROM servers HAVING q > 150 AND q < 500 ORDER BY queries LIMIT 1", "q | 200"),
        ("SELECT COUNT(*) AS n FROM servers HAVING n > 5", "n"),
        ("SELECT name, (SELECT COUNT(*) FROM events) AS n FROM servers HAVING n = 1 LIMIT 1", "name n | db1 1"),
        ("SELECT 1 AS a HAVING (SELECT COUNT(*) AS a FROM servers) = a + 2", "a | 1"),
        ("SELECT * FROM mysql.tables_priv", "Host Db User Table_name Grantor Timestamp Table_priv Column_priv"),
        (
            "SELECT variable_value FROM performance_schema.global_variables WHERE variable_name = 'license'",
            "VARIABLE_VALUE | Apache-2.0",
        ),
        ("SELECT VARIABLE_VALUE AS v FROM `performance_schema`.session_status WHERE variable_name = 'Uptime'", "v | 12"),
        ("SELECT DISTINCT class FROM statements", "class | read | write"),
        (
            "SELECT text, count, p99_us FROM statements ORDER BY sum_us DESC LIMIT 10",
            "text count p99_us | SELECT bb 5 900 | SELECT a 10 900 | UPDATE c 2 900",
        ),
        ("SELECT user, schema, id FROM clients", "user schema id | app shop 9"),
        ("SELECT at, kind, server FROM events ORDER BY at DESC", "at kind server | 1970-01-01 00:00:00.000 suspect db1"),
        ("SELECT rows, errors, cached FROM statements LIMIT 1", "rows errors cached | 10 1 no"),
        ("SELECT value FROM status WHERE variable_name = 'uptime'", "Value | 12"),
        (
            "SELECT name, CASE WHEN lag_ms IS NULL THEN 'none' ELSE lag_ms END AS lag FROM servers LIMIT 2",
            "name lag | db1 none | db2 12",
        ),
        ("SELECT s.* FROM version s", concat!("name version | sluice ", env!("CARGO_PKG_VERSION"))),
        (
            "SELECT 1+2*3, 7/2, 7 DIV 2, -5 % 3, 1/0, 'a' = 'b', NULL = 1, NULL <=> NULL",
            "1 + 2 * 3 7 / 2 7 DIV 2 -5 % 3 1 / 0 'a' = 'b' NULL = 1 NULL <=> NULL | 7 3.5 3 -2 NULL 0 NULL 1",
        ),
        (
            "SELECT CONCAT(UPPER('a'), 1), IFNULL(NULL, 2) AS i, ROUND(1.256, 2) AS r, IF(1 > 2, 'y', 'n') AS c",
            "CONCAT(UPPER('a'), 1) i r c | A1 2 1.26 n",
        ),
        ("SELECT UNIX_TIMESTAMP('2026-11-22 21:04:05.000') AS t, UNIX_TIMESTAMP('1970-01-01') AS z", "t z | 1795381445 0"),
        (
            "SELECT 9223372036854775807 AS big, -9223372036854775807 - 1 AS low",
            "big low | 9223372036854775807 -9223372036854775808",
        ),
        ("SELECT LEFT('größe', 3) AS a, SUBSTRING('größe', -2) AS b", "a b | grö ße"),
        (
            "SELECT a.name, b.name AS other FROM servers a JOIN servers b ON a.queries < b.queries AND b.role = 'MASTER'",
            "name other | db2 db1",
        ),
        (
            "SELECT s.name, c.user FROM servers s LEFT JOIN clients c ON c.server = s.name",
            "name user | db1 app | db2 NULL | db3 NULL",
        ),
        ("SELECT name FROM servers WHERE queries = (SELECT MAX(queries) FROM servers)", "name | db3"),
        ("SELECT name FROM servers UNION SELECT kind FROM events ORDER BY 1 DESC LIMIT 2", "name | suspect | db3"),
        ("WITH x AS (SELECT name FROM servers LIMIT 1) SELECT * FROM x", "name | db1"),
        ("SELECT ROW_NUMBER() OVER (ORDER BY queries DESC) AS place, name FROM servers LIMIT 1", "place name | 1 db3"),
        ("SELECT GROUP_CONCAT(name SEPARATOR '+') AS all_of_them FROM servers", "all_of_them | db1+db2+db3"),
        ("SELECT COUNT(*) AS n FROM events WHERE at > NOW() - INTERVAL 5 MINUTE", "n | 0"),
        ("SELECT UNIX_TIMESTAMP(at) DIV 60 * 60 AS minute, COUNT(*) AS n FROM events GROUP BY 1", "minute n | 0 1"),
        (
            "SELECT at FROM events WHERE at BETWEEN FROM_UNIXTIME(0) AND DATE_ADD('1970-01-01', INTERVAL 1 DAY)",
            "at | 1970-01-01 00:00:00.000",
        ),
        ("SELECT \"a\" AS x, @@autocommit + 1 AS y, _utf8'z' AS z, @nobody AS n", "x y z n | a 2 z NULL"),
        (
            "SELECT count_star, digest_text FROM stats.stats_mysql_query_digest ORDER BY sum_time DESC LIMIT 1",
            "count_star digest_text | 5 SELECT bb",
        ),
        (
            "SELECT hostname, port, status, comment FROM runtime_mysql_servers LIMIT 1",
            "hostname port status comment | 127.0.0.1 3307 ONLINE db1",
        ),
        (
            "SELECT table_name FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'sluice' AND table_name LIKE 's%'",
            "TABLE_NAME | servers | statements | status",
        ),
        (
            "SELECT CAST('7' AS UNSIGNED INTEGER) + 1 AS a, CONVERT(queries, CHAR) AS b, CONVERT('x' USING utf8mb4) AS c FROM servers LIMIT 1",
            "a b c | 8 100 x",
        ),
        ("SELECT name FROM servers WHERE 0", "name"),
        (
            "SELECT FORMAT(12345.678, 1) AS a, FORMAT(-1234567, 0) AS b, FORMAT(999, 2) AS c, FORMAT(NULL, 2) AS d",
            "a b c d | 12,345.7 -1,234,567 999.00 NULL",
        ),
        ("SELECT 1 XOR 1 AS a, 1 XOR 0 AS b, NULL XOR 1 AS c, b'101' + 1 AS d", "a b c d | 0 1 NULL 6"),
        ("SELECT ISNULL(lag_ms) AS n, NOT ISNULL(lag_ms) AS k FROM servers LIMIT 2", "n k | 1 0 | 0 1"),
        (
            "SELECT EXTRACT(HOUR FROM at) AS h, YEAR(at) AS y, MONTH(at) AS m, MINUTE('2026-11-22 21:04:05') AS i, SECOND('x') AS s FROM events",
            "h y m i s | 0 1970 1 4 NULL",
        ),
        ("SELECT MOD(7, 3) AS a, MOD(7, 0) AS b, MOD(-5.5, 2) AS c", "a b c | 1 NULL -1.5"),
        ("(SELECT name FROM servers) UNION (SELECT kind FROM events) ORDER BY 1 DESC LIMIT 2", "name | suspect | db3"),
        ("(SELECT name FROM servers ORDER BY name DESC LIMIT 1) UNION ALL (SELECT kind FROM events)", "name | db3 | suspect"),
        ("(SELECT name FROM servers) LIMIT 1", "name | db1"),
    ] {
        assert_eq!(ask(sql), wanted, "{sql}");
    }
}

#[test]
fn wrong_questions() {
    for (sql, wanted) in [
        ("SELECT nam FROM servers", "1054 42S22 sluice: unknown column `nam`; did you mean `name`?"),
        ("SELECT name FROM servrs", "1146 42S02 sluice: no table is called `servrs`; did you mean `servers`?"),
        ("SELECT * FROM mysql.user", "1146 42S02 sluice: no table is called `mysql.user`; did you mean `users`?"),
        (
            "SELECT * FROM shop.servers",
            "1049 42000 sluice: no schema is called `shop` on the admin port; there are sluice and information_schema",
        ),
        (
            "SELECT * FROM performance_schema.threads",
            "1146 42S02 sluice: no table is called `performance_schema.threads`; what there is to see is in sluice; SHOW TABLES lists it",
        ),
        ("SELECT SLEEP(1)", "1305 42000 sluice: no function is called SLEEP; did you mean LEFT()?"),
        ("SELECT CONNECTION_ID(1)", "1582 42000 sluice: wrong number of arguments to function CONNECTION_ID()"),
        (
            "SELECT name FROM servers WHERE count(*) > 1",
            "1111 HY000 sluice: an aggregate cannot stand there (in WHERE, for example); write HAVING: misuse of aggregate function count()",
        ),
        ("SELECT name FROM servers a JOIN servers b", "1052 23000 sluice: ambiguous column name: name"),
        (
            "SELECT 1 MEMBER OF ('[1]')",
            "1064 42000 sluice: what stands near \"OF\" is SQL that this port's SELECT does not know; docs/admin.md says what it does",
        ),
        ("SELECT 'a\0b'", "1064 42000 sluice: a text with a zero byte cannot be asked for here: no table has one"),
        ("SELECT b'2'", "1064 42000 sluice: b'2' is no number of at most 64 bits"),
        (
            "SELECT EXTRACT(QUARTER FROM NOW())",
            "1064 42000 sluice: EXTRACT knows YEAR, MONTH, DAY, HOUR, MINUTE and SECOND, not QUARTER",
        ),
        ("SELECT *", "1096 HY000 sluice: no table after FROM; SHOW TABLES lists them"),
        ("SELECT name FROM servers ORDER BY 9", "1054 42S22 sluice: 1st ORDER BY term out of range - should be between 1 and 1"),
        ("SELECT 1; SELECT 2", "1064 42000 sluice: one statement at a time, please"),
    ] {
        let got = ask(sql);
        if sql.contains("SLEEP") {
            assert!(got.starts_with("1305 42000 sluice: no function is called SLEEP"), "{got}");
        } else {
            assert_eq!(got, wanted, "{sql}");
        }
    }
    let unknown = ask("SELECT MD5('x')");
    assert!(unknown.contains("no function is called MD5; ") && unknown.contains("SUBSTRING_INDEX"), "{unknown}");
    for sql in
        ["SELECT name INTO OUTFILE '/tmp/x' FROM servers", "SELECT FROM", "SELECT 1 WHERE 1 = ?", "SELECT NOW() + INTERVAL 1 YEAR"]
    {
        assert!(ask(sql).starts_with("1064"), "{sql}: {}", ask(sql));
    }
}

/// The parser and the evaluator recurse: a statement built to exhaust them gets an error, and the process lives.
#[test]
fn statements_built_to_exhaust_us() {
    let chain = |n: usize| format!("SELECT 1{}", "+1".repeat(n));
    assert_eq!(ask(&chain(900)).split(" | ").last(), Some("901"));
    for sql in [
        chain(100_000),
        chain(1_000),
        format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000)),
        format!("SELECT {}1{}", "(".repeat(300), ")".repeat(300)),
        format!("SELECT {} 1", "NOT ".repeat(900)),
        format!("SELECT {} 1", "-".repeat(2_000)),
        format!("SELECT {}1", "- ".repeat(990)),
        format!("SELECT {}1", "NOT ".repeat(990)),
        format!("SELECT 1 FROM servers{}", " JOIN servers".repeat(990)),
        format!("SELECT 1 AS a HAVING a{}", "+a".repeat(100)),
        format!("SELECT (SELECT 1 AS b HAVING b{}) AS a HAVING a{}", "+b".repeat(40), "+a".repeat(40)),
    ] {
        let answer = ask(&sql);
        assert!(answer.starts_with("1064") || answer.starts_with("1436"), "{}", &answer[..80.min(answer.len())]);
    }
    for (sql, errno) in [
        // All of these are asked of SQLite, which has to give up by itself.
        ("WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT COUNT(*) FROM t", "3024"),
        ("SELECT hex(zeroblob(100000000))", "1301"),
        ("SELECT printf('%.*c', 100000000, 'x')", "1301"),
    ] {
        assert!(ask(sql).starts_with(errno), "{sql}: {}", ask(sql));
    }
}

#[test]
fn columns_are_typed() {
    let table =
        answer("SELECT name, lag_ms, COUNT(*), AVG(queries), 'x', NULL, 1.5, -1, since FROM servers GROUP BY name").unwrap();
    let kinds: Vec<Kind> = table.columns.iter().map(|c| c.kind).collect();
    use Kind::*;
    assert_eq!(kinds, [Text, UInt, Int, Float, Text, Text, Float, Int, Time]);
}

#[test]
fn times_are_written_and_subtracted() {
    let cells = |sql: &str| ask(sql).split(" | ").last().unwrap_or_default().to_owned();
    assert_eq!(
        cells("SELECT DATE_FORMAT('2026-11-22 21:04:05.123', '%Y/%m/%d %H:%i:%s %f %y %T %%')"),
        "2026/11/22 21:04:05 123000 26 21:04:05 %"
    );
    assert!(ask("SELECT DATE_FORMAT('2026-11-22', '%W')").contains("not %W"));
    assert_eq!(cells("SELECT TIMESTAMPDIFF(MINUTE, '2026-11-22 21:04:05', '2026-11-22 22:04:04')"), "59");
    assert_eq!(cells("SELECT TIMESTAMPDIFF(SECOND, '2026-11-23', '2026-11-22')"), "-86400");
    assert!(ask("SELECT TIMESTAMPDIFF(YEAR, '2026-11-23', '2026-11-22')").contains("not YEAR"));
    assert_eq!(cells("SELECT FIELD('B', 'a', 'b', 'c')"), "2");
    assert_eq!(
        cells("SELECT CONCAT(LOCATE('B', 'aäbb'), LOCATE('b', 'abab', 3), LOCATE('x', 'a'), LOCATE('', 'a'), LOCATE('a', 'a', 9))"),
        "34010"
    );
    assert_eq!(cells("SELECT CONCAT(FIND_IN_SET('b', 'a,B'), FIND_IN_SET('', ''), FIND_IN_SET('c', 'a,b'))"), "200");
    assert_eq!(
        cells(
            "SELECT CONCAT(SUBSTRING_INDEX('10.0.0.1:3306', ':', 1), SUBSTRING_INDEX('a.b.c', '.', -2), SUBSTRING_INDEX('a', '.', 5))"
        ),
        "10.0.0.1b.ca"
    );
    // MariaDB Connector/J's getColumns.
    let sql = "SELECT UCASE(IF( COLUMN_TYPE LIKE '%(%)%', CONCAT(SUBSTRING( COLUMN_TYPE,1, LOCATE('(',COLUMN_TYPE) - 1 ), \
        SUBSTRING(COLUMN_TYPE ,1+locate(')', COLUMN_TYPE))), COLUMN_TYPE)) TYPE_NAME FROM information_schema.columns \
        WHERE table_name = 'events' AND column_name = 'at'";
    assert_eq!(cells(sql), "DATETIME");
    assert_eq!(cells("SELECT COUNT(*) FROM servers WHERE since > '1969' AND since < '2100'"), "3");
}

/// Connector/J asks with a CASE of all its types. What it sends for `getColumns` and `getProcedureColumns` has more than 400 operators.
#[test]
fn connector_j_finds_columns() {
    const TYPES: &str = "DECIMAL,DECIMAL UNSIGNED,TINYINT,TINYINT UNSIGNED,BOOLEAN,SMALLINT,SMALLINT UNSIGNED,INT,INT UNSIGNED,FLOAT,\
        FLOAT UNSIGNED,DOUBLE,DOUBLE UNSIGNED,NULL,TIMESTAMP,BIGINT,BIGINT UNSIGNED,MEDIUMINT,MEDIUMINT UNSIGNED,DATE,TIME,DATETIME,YEAR,\
        VARCHAR,VARBINARY,BIT,JSON,VECTOR,ENUM,SET,TINYBLOB,TINYTEXT,MEDIUMBLOB,MEDIUMTEXT,LONGBLOB,LONGTEXT,BLOB,TEXT,CHAR,BINARY,\
        GEOMETRY,UNKNOWN";
    const PLACES: &str = "POINT,LINESTRING,POLYGON,MULTIPOINT,MULTILINESTRING,MULTIPOLYGON,GEOMETRYCOLLECTION,GEOMCOLLECTION";
    let when = |names: &str, then: &str| -> String {
        names.split(',').map(|name| format!(" WHEN UPPER(DATA_TYPE)='{}' THEN {then}", name.trim())).collect()
    };
    let one = |full: &str| {
        format!("LOCATE('ZEROFILL', UPPER({full})) = 0 AND LOCATE('UNSIGNED', UPPER({full})) = 0 AND LOCATE('(1)', {full}) != 0")
    };
    let types = |full: &str| {
        let all: String = TYPES
            .split(',')
            .map(|name| match name.trim() {
                name if name.starts_with("TINYINT") => {
                    format!(" WHEN UPPER(DATA_TYPE)='{name}' THEN CASE WHEN {} THEN -7 ELSE -6 END ", one(full))
                }
                name => when(name, "8"),
            })
            .collect();
        format!("CASE {all}{} ELSE 1111 END ", when(PLACES, "-2"))
    };
    let name = |full: &str| {
        let unsigned = format!("LOCATE('UNSIGNED', UPPER({full})) != 0 AND LOCATE('UNSIGNED', UPPER(DATA_TYPE)) = 0");
        format!(
            "UPPER(CASE WHEN UPPER(DATA_TYPE)='TINYINT' THEN CASE WHEN {} THEN 'BIT' WHEN {unsigned} THEN 'TINYINT UNSIGNED' ELSE \
             DATA_TYPE END  WHEN {unsigned} AND LOCATE('SET', UPPER(DATA_TYPE)) <> 1 AND LOCATE('ENUM', UPPER(DATA_TYPE)) <> 1 THEN \
             CONCAT(DATA_TYPE, ' UNSIGNED'){} ELSE UPPER(DATA_TYPE) END) AS TYPE_NAME",
            one(full),
            when(PLACES, "'GEOMETRY'"),
        )
    };
    let precision = "(CASE WHEN DATETIME_PRECISION>0 THEN DATETIME_PRECISION+1 ELSE DATETIME_PRECISION END)";
    let bounded = |what: &str| format!("WHEN {what} > 2147483647 THEN 2147483647 ELSE {what} END");
    let columns = format!(
        "SELECT TABLE_SCHEMA, NULL, TABLE_NAME, COLUMN_NAME,{} AS DATA_TYPE, {},UPPER(CASE WHEN UPPER(DATA_TYPE)='DATE' THEN 10 WHEN \
         UPPER(DATA_TYPE)='TIME'  THEN 8+{precision} WHEN UPPER(DATA_TYPE)='DATETIME' OR  UPPER(DATA_TYPE)='TIMESTAMP'  THEN \
         19+{precision} WHEN UPPER(DATA_TYPE)='YEAR' THEN 4 WHEN UPPER(DATA_TYPE)='TINYINT' AND {} THEN 1 WHEN \
         UPPER(DATA_TYPE)='MEDIUMINT' AND LOCATE('UNSIGNED', UPPER(COLUMN_TYPE)) != 0 THEN 8 WHEN UPPER(DATA_TYPE)='JSON' THEN \
         1073741824 WHEN UPPER(DATA_TYPE)='GEOMETRY' THEN 65535{} WHEN CHARACTER_MAXIMUM_LENGTH IS NULL THEN NUMERIC_PRECISION {}) AS \
         COLUMN_SIZE,65535 AS BUFFER_LENGTH,UPPER(CASE WHEN UPPER(DATA_TYPE)='DECIMAL' THEN NUMERIC_SCALE WHEN \
         UPPER(DATA_TYPE)='FLOAT' OR UPPER(DATA_TYPE)='DOUBLE' THEN CASE WHEN NUMERIC_SCALE IS NULL THEN 0 ELSE NUMERIC_SCALE END ELSE \
         NULL END) AS DECIMAL_DIGITS,10 AS NUM_PREC_RADIX,CASE WHEN IS_NULLABLE='NO' THEN 0 ELSE CASE WHEN IS_NULLABLE='YES' THEN 1 \
         ELSE 2 END END AS NULLABLE,COLUMN_COMMENT AS REMARKS,COLUMN_DEFAULT AS COLUMN_DEF,0 AS SQL_DATA_TYPE,0 AS \
         SQL_DATETIME_SUB,CASE {} AS CHAR_OCTET_LENGTH,ORDINAL_POSITION, IS_NULLABLE, NULL AS SCOPE_CATALOG, NULL AS SCOPE_SCHEMA, \
         NULL AS SCOPE_TABLE, NULL AS SOURCE_DATA_TYPE,IF (EXTRA LIKE '%auto_increment%','YES','NO') AS IS_AUTOINCREMENT, IF (EXTRA \
         LIKE '%GENERATED%','YES','NO') AS IS_GENERATEDCOLUMN FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_SCHEMA = 'sluice' AND \
         TABLE_NAME LIKE 'event%' ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION",
        types("COLUMN_TYPE"),
        name("COLUMN_TYPE"),
        one("COLUMN_TYPE"),
        when(PLACES, "65535"),
        bounded("CHARACTER_MAXIMUM_LENGTH"),
        bounded("CHARACTER_OCTET_LENGTH"),
    );
    let found = answer(&columns).unwrap();
    let cells: Vec<String> = found.rows.iter().map(|row| [3, 5, 6].map(|i| row[i].text().unwrap_or_default()).join(" ")).collect();
    assert_eq!(cells, ["at DATETIME 23", "kind VARCHAR 255", "server VARCHAR 255", "detail VARCHAR 255"]);
    let parameters = format!(
        "SELECT SPECIFIC_SCHEMA AS PROCEDURE_CAT, IFNULL(PARAMETER_NAME, '') AS `COLUMN_NAME`, {} AS `DATA_TYPE`, {}, CASE WHEN \
         LCASE(DATA_TYPE)='date' THEN 0 WHEN LCASE(DATA_TYPE)='time' OR LCASE(DATA_TYPE)='datetime' OR LCASE(DATA_TYPE)='timestamp' \
         THEN DATETIME_PRECISION WHEN (UPPER(DATA_TYPE)='TINYINT' AND {}) THEN 1 ELSE NUMERIC_PRECISION END AS `PRECISION`, CASE {} AS \
         LENGTH,NUMERIC_SCALE AS `SCALE`, 10 AS RADIX,1 AS `NULLABLE` FROM INFORMATION_SCHEMA.PARAMETERS WHERE ROUTINE_TYPE = \
         'PROCEDURE' AND SPECIFIC_SCHEMA = 'sluice' AND (PARAMETER_NAME LIKE '%' OR PARAMETER_NAME IS NULL) ORDER BY SPECIFIC_SCHEMA, \
         SPECIFIC_NAME, ROUTINE_TYPE, ORDINAL_POSITION",
        types("DTD_IDENTIFIER"),
        name("DTD_IDENTIFIER"),
        one("DTD_IDENTIFIER"),
        bounded("CHARACTER_MAXIMUM_LENGTH"),
    );
    assert_eq!(answer(&parameters).unwrap().rows, Vec::<Vec<Value>>::new());
}
