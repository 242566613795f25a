//! Packets recorded from mariadbd 10.11, mysqld 9.7 and four clients, and what malformed ones get.

use super::*;
use crate::protocol::errno;

const MARIADB: &[u8] = b"\n5.5.5-10.11.19-MariaDB-0+deb12u1\x00\xe0\t\x00\x00iInpi=52\x00\xfe\xff\x08\x02\x00\xff\x81\x15\x00\x00\x00\x00\x00\x00\x1d\x00\x00\x009g{Tran'r,$k\x00mysql_native_password\x00";
const MYSQL: &[u8] = b"\n9.7.4-2\x00\xd3\x00\x00\x00sWw(pTE7\x00\xff\xff\xff\x02\x00\xff\xdf\x15\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00L\\R\x1b:W`3R_h\x19\x00caching_sha2_password\x00";
const MARIADB_CLIENT: &[u8] = b"\x8c\xa2\xbf\x00\x00\x00\x10\x00!\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x1d\x00\x00\x00nat\x00\x14q\xf4\xa5v\x9d\xe7L\x03\x87\x1c\x0eT\x9dv\xdeS\xfd\x10\x1blinformation_schema\x00mysql_native_password\x00\x1b\x03_os\x05Linux\x0bserver_host\x04db-1";
const MYSQL_CLIENT: &[u8] = b"\x85\xa2\xbf\x19\x00\x00\x00\x01\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00empt\x00\x00caching_sha2_password\x00\x0a\x03_os\x05Linux";

#[test]
fn greetings_of_both_servers() {
    let mariadb = Greeting::parse(MARIADB).expect("parses");
    assert_eq!(mariadb.version, "5.5.5-10.11.19-MariaDB-0+deb12u1");
    assert_eq!((mariadb.connection_id, mariadb.collation, mariadb.status), (2528, 8, 2));
    assert_eq!(&mariadb.nonce, b"iInpi=529g{Tran'r,$k");
    assert_eq!(mariadb.plugin, "mysql_native_password");
    assert!(!mariadb.capabilities.has(Capabilities::LONG_PASSWORD), "MariaDB's sign that it speaks the extended flags");
    assert_eq!(mariadb.capabilities.mariadb_bits(), 0x1d);

    let mysql = Greeting::parse(MYSQL).expect("parses");
    assert_eq!((mysql.version.as_str(), mysql.connection_id, mysql.collation), ("9.7.4-2", 211, 255));
    assert_eq!(mysql.plugin, "caching_sha2_password");
    assert!(mysql.capabilities.has(Capabilities::SSL | Capabilities::DEPRECATE_EOF | Capabilities::LONG_PASSWORD));
    assert_eq!(mysql.capabilities.mariadb_bits(), 0);

    for (greeting, bytes) in [(mariadb, MARIADB), (mysql, MYSQL)] {
        let mut out = Vec::new();
        greeting.write(&mut out);
        assert_eq!(out, bytes, "written as the server wrote it");
    }
}

#[test]
fn responses_of_clients() {
    let mariadb = HandshakeResponse::parse(MARIADB_CLIENT).expect("parses");
    assert_eq!((mariadb.user.as_str(), mariadb.schema.as_deref()), ("nat", Some("information_schema")));
    assert_eq!((mariadb.auth.len(), mariadb.plugin.as_str(), mariadb.collation), (20, "mysql_native_password", 33));
    assert_eq!(mariadb.capabilities.mariadb_bits(), 0x1d);
    let attribute = |k: &str, v: &str| (k.to_owned(), v.to_owned());
    assert_eq!(mariadb.attributes, [attribute("_os", "Linux"), attribute("server_host", "db-1")]);

    let mysql = HandshakeResponse::parse(MYSQL_CLIENT).expect("parses");
    assert_eq!((mysql.user.as_str(), mysql.auth.len(), mysql.schema.as_deref()), ("empt", 0, None));
    assert_eq!((mysql.max_packet, mysql.collation, mysql.plugin.as_str()), (1 << 24, 255, "caching_sha2_password"));

    for (response, bytes) in [(mariadb, MARIADB_CLIENT), (mysql, MYSQL_CLIENT)] {
        let mut out = Vec::new();
        response.write(&mut out);
        assert_eq!(out, bytes, "written as the client wrote it");
    }
}

#[test]
fn a_response_may_end_early_but_not_within_a_field() {
    let whole = HandshakeResponse::parse(MYSQL_CLIENT).expect("parses");
    let user_end = 32 + 5;
    for len in 0..MYSQL_CLIENT.len() {
        let parsed = HandshakeResponse::parse(&MYSQL_CLIENT[..len]);
        if len <= user_end {
            assert!(parsed.is_err(), "cut at {len}");
        } else if let Ok(parsed) = parsed {
            assert_eq!(parsed.user, whole.user, "cut at {len}");
        }
    }
    // A user name of 513 bytes, an answer longer than the packet, an answer over the limit.
    let head = &MYSQL_CLIENT[..32];
    for (tail, field) in [
        ([&[b'u'; NAME_LEN_MAX + 1][..], b"\0\0"].concat(), "user name"),
        (b"u\0\xfe\xff\xff\xff\xff\xff\xff\xff\x7f".to_vec(), "authentication answer"),
        ([b"u\0\xfc\x01\x10".as_slice(), &[1; CLIENT_PLUGIN_DATA_LEN_MAX + 1]].concat(), "authentication answer"),
        (b"u\0\xff".to_vec(), "authentication answer"),
    ] {
        assert_eq!(HandshakeResponse::parse(&[head, &tail].concat()).expect_err("too long").field, field);
    }
}

#[test]
fn a_tls_request_is_the_head_of_a_response() {
    let head = &MYSQL_CLIENT[..SslRequest::LEN];
    assert_eq!(SslRequest::parse(head), Ok(None), "without the SSL flag it is a response cut short");
    let with_ssl = [&[0x85, 0xaa], &head[2..]].concat();
    let request = SslRequest::parse(&with_ssl).expect("parses").expect("asks for TLS");
    let mut out = Vec::new();
    request.write(&mut out);
    assert_eq!(out, with_ssl);
    assert_eq!(SslRequest::parse(&[0; 32]).expect_err("3.20").why, "the client speaks a protocol older than 4.1");
    assert!(SslRequest::parse(&with_ssl[..31]).is_err());
}

#[test]
fn errors_with_and_without_sqlstate() {
    let early = ServerError::parse(b"\xff\x10\x04Too many connections").expect("parses");
    assert_eq!((early.code, early.sqlstate.as_str(), early.message.as_str()), (1040, "HY000", "Too many connections"));
    assert_eq!(early.client_payload(), b"\xff\x10\x04#HY000Too many connections");
    let denied = ServerError::parse(b"\xff\x15\x04#28000Access denied").expect("parses");
    assert_eq!((denied.code, denied.sqlstate.as_str(), denied.message.as_str()), (1045, "28000", "Access denied"));
    assert_eq!(denied.client_payload(), denied.payload, "passed on byte for byte");
    assert_eq!(ServerError::new(errno::ER_ACCESS_DENIED_ERROR, "Access denied"), denied);
    for bad in [&b""[..], b"\xff", b"\xff\x10", b"\x00\x00\x00"] {
        assert!(ServerError::parse(bad).is_err());
    }
}

#[test]
fn authentication_switches() {
    let packet = b"\xfemysql_native_password\x00`.b$)CSYF0\\^F$|fllWO\x00";
    let switch = AuthSwitchRequest::parse(packet).expect("parses");
    assert_eq!((switch.plugin.as_str(), switch.nonce()), ("mysql_native_password", Some(*b"`.b$)CSYF0\\^F$|fllWO")));
    let mut out = Vec::new();
    switch.write(&mut out);
    assert_eq!(out, packet);
    assert_eq!(AuthSwitchRequest::parse(b"\xfe").expect("parses").plugin, "mysql_old_password");
    assert_eq!(AuthSwitchRequest::parse(b"\xfeplugin\0short").expect("parses").nonce(), None);
    assert!(AuthSwitchRequest::parse(b"\xfeunterminated").is_err());
}

#[test]
fn change_user_with_and_without_its_later_fields() {
    let caps = Capabilities::SECURE_CONNECTION | Capabilities::PLUGIN_AUTH | Capabilities::CONNECT_ATTRS;
    let full = b"\x11app\0\x02xyshop\0\x2d\x00mysql_native_password\0\x04\x01a\x01b";
    let parsed = ChangeUser::parse(full, caps).expect("parses");
    assert_eq!((parsed.user.as_str(), parsed.schema.as_deref(), parsed.collation), ("app", Some("shop"), Some(45)));
    assert_eq!((parsed.auth.as_slice(), parsed.plugin.as_str()), (&b"xy"[..], "mysql_native_password"));
    assert_eq!(parsed.attributes, [("a".to_owned(), "b".to_owned())]);
    let short = ChangeUser::parse(b"\x11app\0\0\0", caps).expect("parses");
    assert_eq!((short.schema, short.collation, short.plugin.as_str()), (None, None, ""));
    for bad in [&b""[..], b"\x11", b"\x11app", b"\x11app\0\x05x", b"\x03app\0\0\0", b"\x11app\0\0\0\x2d"] {
        assert!(ChangeUser::parse(bad, caps).is_err(), "{bad:?}");
    }
}

#[test]
fn names_that_are_not_utf8_stay_distinct() {
    let mut packet = MYSQL_CLIENT[..32].to_vec();
    packet.extend_from_slice(b"caf\xe9\0\0\0");
    assert_eq!(HandshakeResponse::parse(&packet).expect("parses").user, "café");
}

#[test]
fn the_fuzz_corpus_and_every_cut_of_it() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/fuzz/corpus/handshake");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).expect("the corpus is part of the tree") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("a file");
        for len in 0..=bytes.len() {
            handshake_fuzz(&bytes[..len]);
        }
        files += 1;
    }
    assert!(files > 10);
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(data in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        handshake_fuzz(&data);
    }

    #[test]
    fn no_change_of_an_honest_packet_makes_a_parser_panic(at in 0usize..110, byte: u8, which in 0usize..4) {
        let mut packet = [MARIADB, MYSQL, MARIADB_CLIENT, MYSQL_CLIENT][which].to_vec();
        if let Some(b) = packet.get_mut(at) { *b = byte; }
        handshake_fuzz(&packet);
    }
}
