use super::*;

fn result(columns: &[(&str, Option<&str>)]) -> TextResult {
    TextResult {
        columns: columns.iter().map(|(name, _)| (*name).to_owned()).collect(),
        rows: vec![columns.iter().map(|(_, value)| value.map(str::to_owned)).collect()],
        ..TextResult::default()
    }
}

const UUID: &str = "48ab4e34-e6cc-11f1-b02f-02fc00000001";

#[test]
fn a_mysql_replica() {
    let parts = Parts { slow: true, replication: true, heartbeat: true };
    let results = [
        result(&[
            ("f_ro", Some("1")),
            ("f_sro", Some("1")),
            ("f_gtid", Some(&format!("{UUID}:1-9"))),
            ("f_purged", Some(&format!("{UUID}:1-3"))),
            ("f_on", Some("0")),
            ("f_id", Some("3")),
            ("f_uuid", Some("u")),
            ("f_max", Some("151")),
        ]),
        result(&[("f_collation", Some("255")), ("f_threads", Some("7")), ("f_semi", Some("2")), ("f_semi_on", Some("OFF"))]),
        result(&[
            ("Replica_IO_Running", Some("Connecting")),
            ("Replica_SQL_Running", Some("Yes")),
            ("Source_Host", Some("127.0.0.1")),
            ("Source_Port", Some("23501")),
            ("Source_UUID", Some(UUID)),
            ("Source_Server_Id", Some("1")),
            ("Seconds_Behind_Source", None),
            ("Retrieved_Gtid_Set", Some(&format!("{UUID}:1-9"))),
            ("Last_IO_Errno", Some("2003")),
            ("Last_IO_Error", Some("error connecting")),
            ("Last_SQL_Errno", Some("0")),
            ("Last_SQL_Error", Some("")),
        ]),
        result(&[("run", Some("18446744073709551615")), ("beat", Some("12"))]),
    ];
    let facts = facts(Flavor::MySql, parts, &results, &Greeting { collation: 8, ..Greeting::default() }, None).unwrap();
    assert!(!facts.writable() && facts.super_read_only);
    assert_eq!((facts.server_id, facts.greeting.collation, facts.threads_connected, facts.semi_sync_clients), (3, 255, 7, None));
    assert_eq!(facts.heartbeat, Some(Beat { run: u64::MAX, number: 12 }));
    assert_eq!(facts.gtid_executed.as_ref().unwrap().to_string(), format!("{UUID}:1-9"));
    assert_eq!(
        (facts.sends_on, facts.sendable().to_string()),
        (false, format!("{UUID}:4-9")),
        "what is purged nobody can have from it"
    );
    let channel = &facts.replication[0];
    assert_eq!(
        (channel.io_running, channel.sql_running, channel.seconds_behind),
        (ThreadState::Connecting, ThreadState::Running, None)
    );
    assert_eq!((channel.last_io_error.as_str(), channel.last_sql_error.as_str()), ("2003 error connecting", ""));
    assert_eq!((channel.source_port, channel.source_uuid.as_str()), (23501, UUID));
}

#[test]
fn a_mariadb_master_asked_briefly_keeps_what_was_not_asked() {
    let parts = Parts { slow: false, replication: false, heartbeat: true };
    let every = result(&[
        ("f_ro", Some("0")),
        ("f_gtid", Some("0-1-3")),
        ("f_binlog", Some("0-1-3")),
        ("f_id", Some("1")),
        ("f_max", Some("151")),
    ]);
    let empty = TextResult { columns: vec!["run".to_owned(), "beat".to_owned()], ..TextResult::default() };
    let greeting = Greeting { collation: 8, ..Greeting::default() };
    let first = facts(Flavor::MariaDb, parts, &[every.clone(), empty.clone()], &greeting, None).unwrap();
    assert!(first.writable() && first.sight == Sight::Denied);
    assert_eq!(first.heartbeat, Some(Beat::NONE), "no row of ours yet");
    let before = Facts {
        threads_connected: 9,
        semi_sync_clients: Some(1),
        greeting: Greeting { collation: 45, ..greeting.clone() },
        ..first
    };
    let second = facts(Flavor::MariaDb, parts, &[every, empty], &greeting, Some(&before)).unwrap();
    assert_eq!((second.threads_connected, second.semi_sync_clients, second.greeting.collation), (9, Some(1), 45));
}

#[test]
fn an_answer_that_is_none_is_told_in_words() {
    let parts = Parts { slow: false, replication: true, heartbeat: false };
    let every = result(&[("f_ro", Some("0")), ("f_gtid", Some("?")), ("f_id", Some("1")), ("f_max", Some("151"))]);
    let told = |results: &[TextResult]| facts(Flavor::MariaDb, parts, results, &Greeting::default(), None).unwrap_err();
    assert_eq!(told(&[]), "a result is missing");
    assert_eq!(told(&[TextResult::default()]), "f_id is missing");
    assert!(told(&[every]).starts_with("f_gtid is no set of GTIDs"));
    let every = result(&[("f_ro", Some("0")), ("f_gtid", None), ("f_id", Some("1")), ("f_max", Some("151"))]);
    assert_eq!(told(&[every]), "a result is missing");
}

#[test]
fn names_are_quoted_and_wrong_ones_refused() {
    let row = HeartbeatRow::new(HeartbeatTable::parse("slu`ice.heart beat").unwrap(), "proxy'1 \\/é:3306");
    assert_eq!(row.read(), "SELECT run, beat FROM `slu``ice`.`heart beat` WHERE proxy = 'proxy_1____:3306'");
    for wrong in ["", "heartbeat", ".heartbeat", "sluice.", "a.b.c", "a.b ", "a/b.c", &format!("{}.b", "x".repeat(65))] {
        assert_eq!(HeartbeatTable::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn only_what_is_wanted_is_asked() {
    let row = HeartbeatRow::new(HeartbeatTable::parse("sluice.heartbeat").unwrap(), "p");
    let count = |parts, row| poll(Flavor::MySql, parts, row).split(';').count();
    assert_eq!(count(Parts { slow: false, replication: false, heartbeat: false }, Some(&row)), 1);
    assert_eq!(count(Parts { slow: true, replication: true, heartbeat: true }, Some(&row)), 4);
    assert_eq!(count(Parts { slow: true, replication: true, heartbeat: true }, None), 3);
}

#[test]
fn read_only_has_many_words() {
    for (text, on) in [("0", false), ("OFF", false), ("1", true), ("ON", true), ("NO_LOCK", true), ("NO_LOCK_NO_ADMIN", true)] {
        assert_eq!(is_on(text), on, "{text}");
    }
}
