//! Whole logins without a socket: what happens on the left, what the machine wants on the right.

use zeroize::Zeroizing;

use super::*;
use crate::auth::credential::Stage1;
use crate::auth::{caching_sha2, native_password};
use crate::protocol::errno::{self, Errno};

/// Our challenge.
const OURS: [u8; NONCE_LEN] = *b"abcdefghijklmnopqrst";
/// The server's.
const THEIRS: [u8; NONCE_LEN] = *b"ABCDEFGHIJKLMNOPQRST";

fn password(text: &str) -> Arc<Credential> {
    Arc::new(Credential::from_password(Secret::from(text)))
}

fn stage1(text: &str) -> Arc<Credential> {
    Arc::new(Credential::NativeStage1(Stage1::new(native_password::stage1(text.as_bytes()))))
}

fn native(text: &str, nonce: &[u8; NONCE_LEN]) -> Vec<u8> {
    native_password::scramble(&native_password::stage1(text.as_bytes()), nonce).to_vec()
}

fn sha2(text: &str, nonce: &[u8; NONCE_LEN]) -> Vec<u8> {
    caching_sha2::scramble(text.as_bytes(), nonce).to_vec()
}

fn switch(plugin: &str, nonce: &[u8; NONCE_LEN]) -> Action {
    Action::Ask([b"\xfe", plugin.as_bytes(), b"\0", nonce, b"\0"].concat())
}

fn full() -> Action {
    Action::Ask(vec![1, 4])
}

fn accept(credential: Option<Arc<Credential>>, fast: bool, confirmed: bool) -> Action {
    Action::Accept(Accepted { credential, fast, confirmed })
}

fn denied() -> ServerError {
    ServerError::new(errno::ER_ACCESS_DENIED_ERROR, "the server's own words")
}

fn probed(plugin: &str, shows_hash: bool) -> Event<'static> {
    Event::Probed(Probed::Switch { plugin: plugin.to_owned(), nonce: Some(THEIRS), shows_hash, secure: false })
}

fn probed_safely(plugin: &str) -> Event<'static> {
    Event::Probed(Probed::Switch { plugin: plugin.to_owned(), nonce: None, shows_hash: false, secure: true })
}

/// A client in plain TCP whose password is not known.
fn stranger(plugin: &str, answer: Vec<u8>) -> Start {
    Start {
        user: "app".to_owned(),
        host: "10.0.0.1".to_owned(),
        plugin: plugin.to_owned(),
        answer: Some(Zeroizing::new(answer)),
        nonce: OURS,
        keeps_challenge: false,
        secure: false,
        can_switch: true,
        known: None,
        confirm: false,
        borrowed: false,
        ask_servers: true,
    }
}

fn acquaintance(plugin: &str, answer: Vec<u8>, known: Arc<Credential>) -> Start {
    Start { known: Some(known), ..stranger(plugin, answer) }
}

/// A C library in a COM_CHANGE_USER answers the old challenge even when it is given a server's: it is asked for the password instead.
#[test]
fn who_keeps_its_challenge_is_given_no_other() {
    let start = Start { keeps_challenge: true, ..stranger(NATIVE, native("x", &OURS)) };
    play(start, Action::Probe, vec![(probed(NATIVE, true), switch(SHA2, &OURS))]);
    let known = password("x");
    let start = Start { keeps_challenge: true, ..acquaintance(NATIVE, native("x", &OURS), known.clone()) };
    play(start, accept(Some(known), false, false), vec![]);
}

/// Plays a login: the first action, then an event and the action after it, and so on.
fn play(start: Start, first: Action, rest: Vec<(Event<'_>, Action)>) {
    let (mut machine, action) = Exchange::begin(start);
    assert_eq!(action, first, "at first");
    for (i, (event, expected)) in rest.into_iter().enumerate() {
        let shown = format!("{event:?}");
        assert_eq!(machine.step(event), expected, "event {i}: {shown}");
    }
}

fn code(action: &Action) -> Option<u16> {
    match action {
        Action::Refuse { error, .. } => Some(error.code),
        _ => None,
    }
}

const NATIVE: &str = "mysql_native_password";
const SHA2: &str = "caching_sha2_password";

#[test]
fn who_is_known_needs_no_server() {
    for (start, fast) in [
        (acquaintance(NATIVE, native("x", &OURS), stage1("x")), false),
        (acquaintance(NATIVE, native("x", &OURS), password("x")), false),
        (acquaintance("", native("x", &OURS), stage1("x")), false),
        (acquaintance(SHA2, sha2("x", &OURS), password("x")), true),
        (acquaintance(SHA2, vec![], password("")), false),
        (acquaintance(SHA2, vec![0], password("")), false),
        (acquaintance(NATIVE, vec![], password("")), false),
    ] {
        let known = start.known.clone();
        play(start, accept(known, fast, false), vec![]);
    }
}

/// Bug: a client without TLS that cannot send its password was refused although a server, which had seen it in TLS, would have let it in.
#[test]
fn what_was_learned_in_tls_counts_without_it_when_a_server_says_so() {
    let start = |answer| Start { borrowed: true, ..acquaintance(SHA2, answer, password("x")) };
    let fits = || start(sha2("x", &OURS));
    let log_in = || Action::LogIn(password("x"));
    play(fits(), log_in(), vec![(Event::Verdict(Verdict::Accepted), accept(Some(password("x")), true, true))]);
    // The account may require TLS, and nobody says that it does not.
    let refused = |ground| Action::Refuse { error: denied(), ground };
    play(fits(), log_in(), vec![(Event::Verdict(Verdict::Refused(denied())), refused(Ground::Stale))]);
    let full = ServerError::new(errno::ER_CON_COUNT_ERROR, "the server's own words");
    let told = Action::Refuse { error: full.clone(), ground: Ground::Judged };
    play(fits(), log_in(), vec![(Event::Verdict(Verdict::Refused(full)), told)]);
    let (mut machine, _) = Exchange::begin(fits());
    let action = machine.step(Event::Verdict(Verdict::Unreachable("why".to_owned())));
    assert_eq!(code(&action), Some(errno::ER_SERVER_SHUTDOWN.0));
    play(start(sha2("another", &OURS)), Action::Probe, vec![]);
}

#[test]
fn a_known_password_and_a_plugin_that_cannot_show_it() {
    play(
        acquaintance("mysql_clear_password", b"x\0".to_vec(), password("x")),
        switch(SHA2, &OURS),
        vec![(Event::Client(&sha2("x", &OURS)), accept(Some(password("x")), true, false))],
    );
    // It does not fit: the password itself is asked for, with no second switch, and a server decides.
    play(
        acquaintance("unheard_of", vec![1], password("x")),
        switch(SHA2, &OURS),
        vec![
            (Event::Client(&sha2("new", &OURS)), full()),
            (Event::Client(&[2]), Action::SendKey),
            (Event::Client(&[7; 256]), Action::Decrypt { encrypted: vec![7; 256], nonce: OURS }),
            (Event::Decrypted(Ok(Secret::from("new"))), Action::LogIn(password("new"))),
            (Event::Verdict(Verdict::Accepted), accept(Some(password("new")), false, true)),
        ],
    );
}

#[test]
fn a_native_account_asked_in_the_plugin_of_the_client_inside_tls() {
    let rest = || {
        vec![
            (Event::Client(b"x\0"), Action::LogIn(password("x"))),
            (Event::Verdict(Verdict::Accepted), accept(Some(password("x")), false, true)),
        ]
    };
    let start = Start { secure: true, ..stranger(SHA2, sha2("x", &OURS)) };
    play(start, Action::Probe, std::iter::once((probed(NATIVE, true), full())).chain(rest()).collect());
    // It was greeted with the old plugin and waits.
    let start = Start { secure: true, answer: None, ..stranger(SHA2, vec![]) };
    let answer = sha2("x", &OURS);
    let switched = [(probed(NATIVE, true), switch(SHA2, &OURS)), (Event::Client(&answer), full())];
    play(start, Action::Probe, switched.into_iter().chain(rest()).collect());
}

#[test]
fn native_by_the_servers_own_challenge() {
    let answer = native("x", &THEIRS);
    let hash = "CREATE USER `app`@`%` IDENTIFIED BY PASSWORD '*B69027D44F6E5EDC07F1AEAD1477967B16F28227'";
    // Whatever the client tried first, and also when only SHA1(password) is known and the client speaks another plugin.
    for start in [
        stranger(NATIVE, native("x", &OURS)),
        stranger(SHA2, sha2("x", &OURS)),
        acquaintance(SHA2, sha2("x", &OURS), stage1("x")),
        acquaintance(NATIVE, native("x", &OURS), stage1("old")),
        Start { answer: None, ..stranger(NATIVE, vec![]) },
    ] {
        play(
            start,
            Action::Probe,
            vec![
                (probed(NATIVE, true), switch(NATIVE, &THEIRS)),
                (Event::Client(&answer), Action::Relay(answer.clone())),
                (Event::Verdict(Verdict::Accepted), Action::ReadAccount),
                (Event::Account(Some(hash.to_owned())), accept(Some(stage1("x")), false, true)),
            ],
        );
    }
}

/// A client that does not say that it knows switches is given one all the same: without it there is a refusal.
#[test]
fn native_by_a_client_without_switches() {
    let answer = native("x", &THEIRS);
    let hash = "CREATE USER `app`@`%` IDENTIFIED BY PASSWORD '*B69027D44F6E5EDC07F1AEAD1477967B16F28227'";
    for (shows_hash, account, known) in [(true, Some(hash.to_owned()), Some(stage1("x"))), (false, None, None)] {
        play(
            Start { can_switch: false, ..stranger("", native("x", &OURS)) },
            Action::Probe,
            vec![
                (probed(NATIVE, shows_hash), switch(NATIVE, &THEIRS)),
                (Event::Client(&answer), Action::Relay(answer.clone())),
                (Event::Verdict(Verdict::Accepted), Action::ReadAccount),
                (Event::Account(account), accept(known, false, true)),
            ],
        );
    }
}

#[test]
fn native_when_the_hash_stays_hidden_or_is_anothers() {
    let answer = native("x", &THEIRS);
    for account in
        [None, Some("CREATE USER `app`@`%` IDENTIFIED BY PASSWORD '*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19'".to_owned())]
    {
        play(
            stranger(NATIVE, native("x", &OURS)),
            Action::Probe,
            vec![
                (probed(NATIVE, true), switch(NATIVE, &THEIRS)),
                (Event::Client(&answer), Action::Relay(answer.clone())),
                (Event::Verdict(Verdict::Accepted), Action::ReadAccount),
                (Event::Account(account), accept(None, false, true)),
            ],
        );
    }
}

#[test]
fn native_without_a_password() {
    let accepted = || (Event::Verdict(Verdict::Accepted), accept(Some(password("")), false, true));
    for empty in [&b""[..], b"\0"] {
        play(
            Start { answer: None, ..stranger(NATIVE, vec![]) },
            Action::Probe,
            vec![(probed(NATIVE, true), switch(NATIVE, &THEIRS)), (Event::Client(empty), Action::Relay(vec![])), accepted()],
        );
    }
    // What it has said already it is not asked for again.
    play(stranger(NATIVE, vec![]), Action::Probe, vec![(probed(NATIVE, true), Action::Relay(vec![])), accepted()]);
}

#[test]
fn the_server_refuses_in_its_own_words() {
    let no = || Action::Refuse { error: denied(), ground: Ground::Judged };
    let answer = native("x", &THEIRS);
    play(
        stranger(NATIVE, native("x", &OURS)),
        Action::Probe,
        vec![
            (probed(NATIVE, true), switch(NATIVE, &THEIRS)),
            (Event::Client(&answer), Action::Relay(answer.clone())),
            (Event::Verdict(Verdict::Refused(denied())), no()),
        ],
    );
    play(stranger(NATIVE, vec![]), Action::Probe, vec![(Event::Probed(Probed::Refused(denied())), no())]);
    play(
        Start { secure: true, ..stranger(SHA2, sha2("x", &OURS)) },
        Action::Probe,
        vec![
            (probed(SHA2, false), full()),
            (Event::Client(b"x\0"), Action::LogIn(password("x"))),
            (Event::Verdict(Verdict::Refused(denied())), no()),
        ],
    );
}

#[test]
fn the_password_itself_for_every_other_plugin() {
    let learned = || (Event::Verdict(Verdict::Accepted), accept(Some(password("x")), false, true));
    let given = || (Event::Client(b"x\0"), Action::LogIn(password("x")));
    for plugin in [SHA2, "sha256_password", "mysql_clear_password", NATIVE] {
        // In TLS, by a client that began with caching_sha2 …
        let start = Start { secure: true, ..stranger(SHA2, sha2("x", &OURS)) };
        play(start, Action::Probe, vec![(probed(plugin, false), full()), given(), learned()]);
        // … with another plugin …
        play(
            Start { secure: true, ..stranger(NATIVE, native("x", &OURS)) },
            Action::Probe,
            vec![(probed(plugin, false), switch(SHA2, &OURS)), (Event::Client(&sha2("x", &OURS)), full()), given(), learned()],
        );
        // … or has sent the password already.
        play(
            Start { secure: true, ..stranger("mysql_clear_password", b"x\0".to_vec()) },
            Action::Probe,
            vec![(probed(plugin, false), Action::LogIn(password("x"))), learned()],
        );
        // Without TLS, encrypted.
        play(
            stranger(SHA2, sha2("x", &OURS)),
            Action::Probe,
            vec![
                (probed(plugin, false), full()),
                (Event::Client(&[2]), Action::SendKey),
                (Event::Client(&[9; 256]), Action::Decrypt { encrypted: vec![9; 256], nonce: OURS }),
                (Event::Decrypted(Ok(Secret::from("x"))), Action::LogIn(password("x"))),
                learned(),
            ],
        );
        // No password: said by the empty answer, before or after the switch.
        play(
            stranger(SHA2, vec![0]),
            Action::Probe,
            vec![
                (probed(plugin, false), Action::LogIn(password(""))),
                (Event::Verdict(Verdict::Accepted), accept(Some(password("")), false, true)),
            ],
        );
        play(
            stranger("unheard_of", vec![]),
            Action::Probe,
            vec![
                (probed(plugin, false), switch(SHA2, &OURS)),
                (Event::Client(&[]), Action::LogIn(password(""))),
                (Event::Verdict(Verdict::Accepted), accept(Some(password("")), false, true)),
            ],
        );
    }
}

#[test]
fn a_password_sent_before_tls_is_not_used() {
    play(
        stranger("mysql_clear_password", b"x\0".to_vec()),
        Action::Probe,
        vec![(probed("mysql_clear_password", false), switch(SHA2, &OURS))],
    );
}

#[test]
fn what_was_known_is_confirmed_now_and_then() {
    let start = || Start { confirm: true, ..acquaintance(SHA2, sha2("x", &OURS), password("x")) };
    let ask = || Action::LogIn(password("x"));
    let error = |code| ServerError::new(Errno(code), "…");
    let unreachable = Verdict::Unreachable("down".to_owned());
    for (verdict, then) in [
        (Verdict::Accepted, accept(Some(password("x")), true, true)),
        (Verdict::Refused(denied()), Action::Refuse { error: denied(), ground: Ground::Stale }),
        (Verdict::Refused(error(3118)), Action::Refuse { error: error(3118), ground: Ground::Stale }),
        (Verdict::Refused(error(1226)), accept(Some(password("x")), true, false)),
        (unreachable, accept(Some(password("x")), true, false)),
        (Verdict::Unfit("another plugin".to_owned()), full()),
    ] {
        play(start(), ask(), vec![(Event::Verdict(verdict), then)]);
    }
    play(
        Start { confirm: true, ..acquaintance(NATIVE, native("x", &OURS), stage1("x")) },
        Action::LogIn(stage1("x")),
        vec![(Event::Verdict(Verdict::Unfit("caching_sha2_password now".to_owned())), Action::Probe)],
    );
}

/// A library whose plugin is not the greeted one sends an empty answer and waits for a switch; that is no empty password.
#[test]
fn nothing_sent_is_not_an_empty_password() {
    let silent = |start: Start| Start { answer: None, ..start };
    play(
        silent(acquaintance(NATIVE, vec![], password(""))),
        switch(SHA2, &OURS),
        vec![(Event::Client(&[0]), accept(Some(password("")), false, false))],
    );
    play(
        silent(Start { secure: true, ..stranger(NATIVE, vec![]) }),
        Action::Probe,
        vec![
            (probed(SHA2, false), switch(SHA2, &OURS)),
            (Event::Client(&sha2("x", &OURS)), full()),
            (Event::Client(b"x\0"), Action::LogIn(password("x"))),
        ],
    );
    play(
        silent(Start { ask_servers: false, ..acquaintance(NATIVE, vec![], password("x")) }),
        switch(NATIVE, &OURS),
        vec![(Event::Client(&native("x", &OURS)), accept(Some(password("x")), false, false))],
    );
}

/// What nothing can be learned from goes between client and server as it is, and leaves no credential.
#[test]
fn what_cannot_be_learned_is_carried() {
    let in_tls = |start: Start| Start { secure: true, ..start };
    for (what, start, first) in [
        ("ed25519 without TLS", stranger(NATIVE, native("x", &OURS)), probed("client_ed25519", true)),
        ("PAM without TLS, as at the server", stranger(NATIVE, vec![]), probed("dialog", true)),
        ("PAM in TLS, and TLS to the server", in_tls(stranger(NATIVE, vec![])), probed_safely("dialog")),
        ("a signature, safe anywhere", in_tls(stranger(NATIVE, vec![])), probed("parsec", true)),
    ] {
        let (mut machine, action) = Exchange::begin(start);
        assert_eq!(action, Action::Probe, "{what}");
        assert_eq!(machine.step(first), Action::PassOn, "{what}");
        assert_eq!(machine.step(Event::Verdict(Verdict::Accepted)), accept(None, false, true), "{what}");
    }
    play(
        stranger(NATIVE, native("x", &OURS)),
        Action::Probe,
        vec![
            (probed("client_ed25519", true), Action::PassOn),
            (Event::Verdict(Verdict::Refused(denied())), Action::Refuse { error: denied(), ground: Ground::Judged }),
        ],
    );
}

/// Inside TLS the client is asked for its password, so that its account's connections can be shared.
#[test]
fn ed25519_inside_tls_is_learned() {
    play(
        Start { secure: true, ..stranger(NATIVE, native("x", &OURS)) },
        Action::Probe,
        vec![
            (probed("client_ed25519", true), switch(SHA2, &OURS)),
            (Event::Client(&sha2("x", &OURS)), full()),
            (Event::Client(b"x\0"), Action::LogIn(password("x"))),
            (Event::Verdict(Verdict::Accepted), accept(Some(password("x")), false, true)),
        ],
    );
}

#[test]
fn a_file_decides_alone() {
    let alone = |start: Start| Start { ask_servers: false, ..start };
    for (start, expected) in [
        (acquaintance(NATIVE, native("x", &OURS), password("x")), None),
        (acquaintance(NATIVE, native("y", &OURS), password("x")), Some(1045)),
        (acquaintance(SHA2, sha2("y", &OURS), password("x")), Some(1045)),
        (acquaintance(SHA2, vec![], password("x")), Some(1045)),
        (stranger(SHA2, sha2("x", &OURS)), Some(1045)),
    ] {
        let (_, action) = Exchange::begin(alone(start));
        assert_eq!(code(&action), expected, "{action:?}");
    }
    let (mut machine, _) = Exchange::begin(alone(acquaintance("unheard_of", vec![1], password("x"))));
    let Action::Refuse { error, .. } = machine.step(Event::Client(&sha2("y", &OURS))) else { panic!("refused") };
    assert_eq!(error.message, "Access denied for user 'app'@'10.0.0.1' (using password: YES)");
    let (_, action) = Exchange::begin(alone(stranger(NATIVE, vec![])));
    let Action::Refuse { error, .. } = action else { panic!("refused") };
    assert_eq!(error.message, "Access denied for user 'app'@'10.0.0.1' (using password: NO)");
}

#[test]
fn what_cannot_be_done_is_said() {
    let refused = |start: Start, events: Vec<Event<'_>>| {
        let (mut machine, mut action) = Exchange::begin(start);
        for event in events {
            action = machine.step(event);
        }
        code(&action)
    };
    let sha2_start = || Start { secure: true, ..stranger(SHA2, sha2("x", &OURS)) };
    let old_client = || Start { can_switch: false, ..stranger("", native("x", &OURS)) };
    for (what, start, events, expected) in [
        ("a plugin for which the server's side would have to be safe", sha2_start(), vec![probed("dialog", false)], 1251),
        ("a client without switches, anything", old_client(), vec![probed("dialog", false)], 1251),
        ("no server", sha2_start(), vec![Event::Probed(Probed::Unreachable("all down".to_owned()))], 1053),
        (
            "a client without switches that keeps its challenge, native",
            Start { keeps_challenge: true, ..old_client() },
            vec![probed(NATIVE, true)],
            1251,
        ),
        ("a client without switches, sha2", old_client(), vec![probed(SHA2, false)], 1251),
        (
            "a native answer of a wrong length",
            stranger(NATIVE, native("x", &OURS)),
            vec![probed(NATIVE, true), Event::Client(&[1; 19])],
            1043,
        ),
        ("a password without its NUL", sha2_start(), vec![probed(SHA2, false), Event::Client(b"x")], 1043),
        ("a password with a NUL inside", sha2_start(), vec![probed(SHA2, false), Event::Client(b"x\0y\0")], 1045),
        ("a password too long", sha2_start(), vec![probed(SHA2, false), Event::Client(&[&[b'x'; 1025][..], &[0]].concat())], 1045),
        (
            "encrypted with another key",
            stranger(SHA2, sha2("x", &OURS)),
            vec![probed(SHA2, false), Event::Client(&[1; 256]), Event::Decrypted(Err(RsaError::NotOurs))],
            1045,
        ),
    ] {
        assert_eq!(refused(start, events), Some(expected), "{what}");
    }
}
