//! Sluice logging in, packet by packet. The challenges and answers marked "recorded" come from mariadbd 10.11 and
//! mysqld 9.7 with their own clients.

use super::*;
use crate::auth::credential::Stage1;
use crate::auth::native_password;
use crate::auth::rsa::PasswordKey;

const NONCE: [u8; NONCE_LEN] = *b"abcdefghijklmnopqrst";
const OTHER: [u8; NONCE_LEN] = *b"ABCDEFGHIJKLMNOPQRST";

fn password(text: &str) -> Credential {
    Credential::Password(Secret::from(text))
}

fn stage1(text: &str) -> Credential {
    Credential::NativeStage1(Stage1::new(native_password::stage1(text.as_bytes())))
}

fn switch(plugin: &str) -> Vec<u8> {
    [b"\xfe", plugin.as_bytes(), b"\0", &OTHER, b"\0"].concat()
}

/// What a step comes to, in one comparable value.
#[derive(PartialEq, Eq, Debug)]
enum Out {
    Send(Vec<u8>),
    Wait,
    Done,
    Refused(u16),
    Error(AnswerError),
}

fn out(step: Result<Step, AnswerError>) -> Out {
    match step {
        Ok(Step::Send(bytes)) => Out::Send(bytes.to_vec()),
        Ok(Step::Wait) => Out::Wait,
        Ok(Step::Done) => Out::Done,
        Ok(Step::Refused(e)) => Out::Refused(e.code),
        Err(e) => Out::Error(e),
    }
}

#[test]
fn the_first_answer_fits_the_greeting_and_what_is_known() {
    let native = |p: &str, n| native_password::scramble(&native_password::stage1(p.as_bytes()), n).to_vec();
    for (greeted, credential, plugin, answer) in [
        ("mysql_native_password", password("x"), "mysql_native_password", native("x", &NONCE)),
        ("mysql_native_password", stage1("x"), "mysql_native_password", native("x", &NONCE)),
        ("caching_sha2_password", stage1("x"), "mysql_native_password", native("x", &NONCE)),
        (
            "caching_sha2_password",
            password("x"),
            "caching_sha2_password",
            super::super::caching_sha2::scramble(b"x", &NONCE).to_vec(),
        ),
        ("caching_sha2_password", Credential::None, "caching_sha2_password", vec![]),
        ("client_ed25519", password("x"), "mysql_native_password", native("x", &NONCE)),
        ("", Credential::None, "mysql_native_password", vec![]),
    ] {
        let (name, sent) = Answerer::new(&credential, false, greeted, NONCE).first();
        assert_eq!((name, sent.to_vec()), (plugin, answer), "{greeted} with {credential:?}");
    }
}

fn ed25519_switch() -> Vec<u8> {
    [&b"\xfeclient_ed25519\0"[..], &[9; 32]].concat()
}

#[test]
fn one_packet_of_the_server_and_the_answer() {
    let clear = |text: &str| Out::Send([text.as_bytes(), b"\0"].concat());
    let native = |p: &str| Out::Send(native_password::scramble(&native_password::stage1(p.as_bytes()), &OTHER).to_vec());
    let sha2 = |p: &str| Out::Send(super::super::caching_sha2::scramble(p.as_bytes(), &OTHER).to_vec());
    let pw = || password("x");
    let unknown = |plugin| Out::Error(AnswerError::PasswordUnknown(plugin));
    for (credential, secure, packet, expected) in [
        (pw(), false, b"\0\0\0\x02\0\0\0".to_vec(), Out::Done),
        (pw(), false, b"\xff\x15\x04#28000no".to_vec(), Out::Refused(1045)),
        (pw(), false, vec![1, 3], Out::Wait),
        (pw(), true, vec![1, 4], clear("x")),
        (pw(), false, vec![1, 4], Out::Send(vec![2])),
        (Credential::None, false, vec![1, 4], clear("")),
        (pw(), false, switch("mysql_native_password"), native("x")),
        (stage1("x"), false, switch("mysql_native_password"), native("x")),
        (Credential::None, false, switch("mysql_native_password"), Out::Send(vec![])),
        (pw(), false, switch("caching_sha2_password"), sha2("x")),
        (Credential::None, false, switch("caching_sha2_password"), Out::Send(vec![])),
        (stage1("x"), false, switch("caching_sha2_password"), unknown(Plugin::CachingSha2)),
        (pw(), true, switch("sha256_password"), clear("x")),
        (pw(), false, switch("sha256_password"), Out::Send(vec![1])),
        (pw(), true, switch("mysql_clear_password"), clear("x")),
        (pw(), false, switch("mysql_clear_password"), Out::Error(AnswerError::NotSecure(Plugin::Clear))),
        (stage1("x"), true, switch("mysql_clear_password"), unknown(Plugin::Clear)),
        (pw(), false, ed25519_switch(), Out::Send(super::super::ed25519::sign(b"x", &[9; 32]).to_vec())),
        (Credential::None, false, ed25519_switch(), Out::Send(vec![])),
        (stage1("x"), false, ed25519_switch(), unknown(Plugin::Ed25519)),
        (pw(), true, switch("parsec"), Out::Error(AnswerError::PluginNotSupported("parsec".to_owned()))),
        (pw(), true, vec![0xFE], Out::Error(AnswerError::PluginNotSupported("mysql_old_password".to_owned()))),
    ] {
        let mut answerer = Answerer::new(&credential, secure, "caching_sha2_password", NONCE);
        assert_eq!(out(answerer.step(&packet)), expected, "{credential:?} secure={secure} {packet:?}");
    }
}

#[test]
fn a_public_key_is_used_only_when_asked_for() {
    let key = PasswordKey::generate().expect("a key");
    let credential = password("x");
    for (first, nonce) in [(vec![1, 4], NONCE), (switch("sha256_password"), OTHER)] {
        let mut answerer = Answerer::new(&credential, false, "caching_sha2_password", NONCE);
        assert!(matches!(answerer.step(&first), Ok(Step::Send(_))));
        let pem = [&[1], key.public_pem()].concat();
        let Ok(Step::Send(encrypted)) = answerer.step(&pem) else { panic!("the password is sent") };
        assert_eq!(key.decrypt_password(&encrypted, &nonce).expect("opens").expose(), b"x");
        assert!(answerer.step(&pem).is_err(), "a second key");
    }
    let mut answerer = Answerer::new(&credential, false, "caching_sha2_password", NONCE);
    assert!(answerer.step(&[&[1], key.public_pem()].concat()).is_err(), "a key nobody asked for");
}

#[test]
fn malformed_and_endless_servers_end() {
    let credential = password("x");
    for packet in [
        &b""[..],
        b"\x02",
        b"\x01",
        b"\x01\x05",
        b"\xfeunterminated",
        b"\xfemysql_native_password\0short",
        b"\xfeclient_ed25519\0twenty-six bytes of nonsense",
        b"\xff",
    ] {
        let mut answerer = Answerer::new(&credential, true, "caching_sha2_password", NONCE);
        assert!(matches!(answerer.step(packet), Err(AnswerError::Malformed(_))), "{packet:?}");
    }
    let mut answerer = Answerer::new(&credential, true, "", NONCE);
    let went = (0..=SWITCHES_MAX).map(|_| answerer.step(&switch("mysql_native_password")).is_ok()).collect::<Vec<_>>();
    assert_eq!(went.iter().filter(|ok| **ok).count(), usize::from(SWITCHES_MAX));
    let mut answerer = Answerer::new(&credential, true, "caching_sha2_password", NONCE);
    let went = (0..=PACKETS_MAX).map(|_| answerer.step(&[1, 3]).is_ok()).filter(|ok| *ok).count();
    assert_eq!(went, usize::from(PACKETS_MAX));
}
