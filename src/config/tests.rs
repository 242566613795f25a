//! Mistakes as golden texts, `config/sluice.toml` against the types, and reload's comparison.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::Path;

use super::reload::diff;
use super::secrets::Outside;
use super::*;

/// A machine with a few files and variables.
#[derive(Default)]
struct Fake {
    files: HashMap<&'static str, (&'static str, u32)>,
    variables: HashMap<&'static str, &'static str>,
}

impl Outside for Fake {
    fn read(&self, path: &Path) -> io::Result<String> {
        if path.ends_with("roots.password") {
            return Err(io::Error::from_raw_os_error(13));
        }
        let found = path.to_str().and_then(|p| self.files.get(p));
        found.map(|(text, _)| (*text).to_owned()).ok_or_else(|| io::Error::from_raw_os_error(2))
    }
    fn mode(&self, path: &Path) -> Option<u32> {
        path.to_str().and_then(|p| self.files.get(p)).map(|(_, mode)| 0o100_000 | mode)
    }
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).map(|v| (*v).to_owned())
    }
}

fn fake() -> Fake {
    Fake {
        files: HashMap::from([
            ("/etc/sluice/open.password", ("s3cr3t\n", 0o644)),
            ("/etc/sluice/monitor.password", ("s3cr3t\n", 0o640)),
            ("/etc/sluice/empty.password", ("\n", 0o600)),
            ("/etc/sluice/ca.pem", ("-----", 0o644)),
        ]),
        variables: HashMap::from([("SLUICE_PASSWORD", "from env"), ("EMPTY", "")]),
    }
}

const SERVER: &str = "[[server]]\nname = \"db1\"\naddress = \"10.0.0.11:3306\"\nrole = \"master\"\n";

fn read(text: &str) -> Result<Config, Vec<Mistake>> {
    parse_with(text, "/etc/sluice/sluice.toml", &fake())
}

/// Messages and advice with their lines: `3:1 message => advice`.
fn said(text: &str) -> Vec<String> {
    let mistakes = match read(text) {
        Ok(config) => config.warnings,
        Err(mistakes) => mistakes,
    };
    mistakes
        .iter()
        .map(|m| {
            let advice = m.advice.as_ref().map_or(String::new(), |a| format!(" => {a}"));
            let warning = if m.severity == Severity::Warning { "warning " } else { "" };
            format!("{warning}{}:{} {}{advice}", m.line, m.column, m.message)
        })
        .collect()
}

/// What stands in for a value that cannot be read is not judged: each mistake is told once.
#[test]
fn a_wrong_value_has_no_mistakes_behind_it() {
    let two_bad = "[[server]]\nname = \"db1\"\naddress = \"nohost\"\nrole = \"master\"\n\
                   [[server]]\nname = \"db2\"\naddress = \"127.0.0.1:99999\"\n";
    let told = said(two_bad);
    assert_eq!(told.iter().filter(|line| line.contains("address")).count(), 2, "{told:#?}");
    assert!(!told.iter().any(|line| line.contains("Sluice's own") || line.contains("same address")), "{told:#?}");
    let no_list = said("[server]\nname = \"db1\"\naddress = \"10.0.0.11:3306\"\n");
    assert!(no_list.iter().any(|line| line.ends_with("[server] is a list => write [[server]]")), "{no_list:#?}");
    assert!(!no_list.iter().any(|line| line.contains("no [[server]]")), "{no_list:#?}");
}

#[test]
fn all_mistakes_of_a_file_at_once_with_their_places() {
    let text = "\
[proxy]
listn = [\"0.0.0.0:3306\"]
max_clients = \"many\"
drain_timeout = \"30 seconds\"

[monitor]
password = \"hush\"
password_file = \"monitor.password\"
max_lagg = \"5s\"

[[server]]
name = \"db1\"
address = \"10.0.0.11\"
role = \"slave\"
weight = 0
";
    let shown = read(text).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n");
    let wanted = r#"error: unknown key `listn` in [proxy]
  --> /etc/sluice/sluice.toml:2:1
   |
 2 | listn = ["0.0.0.0:3306"]
   | ^^^^^
   = did you mean `listen`?

error: `max_clients` must be a whole number, not a string
  --> /etc/sluice/sluice.toml:3:15
   |
 3 | max_clients = "many"
   |               ^^^^^^

error: `drain_timeout` has the unknown unit `seconds`
  --> /etc/sluice/sluice.toml:4:17
   |
 4 | drain_timeout = "30 seconds"
   |                 ^^^^^^^^^^^^
   = write "30s"

error: the password is given twice: `password` and `password_file`
  --> /etc/sluice/sluice.toml:8:17
   |
 8 | password_file = "monitor.password"
   |                 ^^^^^^^^^^^^^^^^^^
   = keep one of them; `password_file` keeps it out of this file

error: unknown key `max_lagg` in [monitor]
  --> /etc/sluice/sluice.toml:9:1
   |
 9 | max_lagg = "5s"
   | ^^^^^^^^
   = did you mean `max_lag`?

error: no server has role = "master"
  --> /etc/sluice/sluice.toml:11:1
    |
 11 | [[server]]
    | ^^^^^^^^^^
    = give it to the server (or the two) that may take writes

error: `address` has no port
  --> /etc/sluice/sluice.toml:13:11
    |
 13 | address = "10.0.0.11"
    |           ^^^^^^^^^^^
    = write it like "10.0.0.11:3306"

error: `role` cannot be "slave"
  --> /etc/sluice/sluice.toml:14:8
    |
 14 | role = "slave"
    |        ^^^^^^^
    = it is one of "master", "replica"

error: `weight` cannot be 0
  --> /etc/sluice/sluice.toml:15:10
    |
 15 | weight = 0
    |          ^
    = it is a number from 1 to 1000000"#;
    // The arrow stands above the bar; its indentation grows with the line number.
    let wanted = wanted.replace("  --> /etc/sluice/sluice.toml:1", "   --> /etc/sluice/sluice.toml:1");
    assert_eq!(shown, wanted, "\n{shown}\n");
}

/// Each text is put before a right `[[server]]` entry, which begins on the line after it.
#[test]
fn each_mistake_has_its_words() {
    let mut wrong = Vec::new();
    for (text, wanted) in [
        // Words and places
        ("[prox]\nlisten = []\n", "1:2 unknown section `prox` => did you mean [proxy]?"),
        ("[[servers]]\nname = \"x\"\n", "1:3 unknown section `servers` => did you mean [[server]]?"),
        ("max_lag = \"5s\"\n", "1:1 unknown key `max_lag` => `max_lag` belongs below [monitor]"),
        ("[proxy]\nmax_lag = \"5s\"\n", "2:1 unknown key `max_lag` in [proxy] => `max_lag` belongs in [monitor]"),
        ("[proxy.tls]\nmodes = \"x\"\n", "2:1 unknown key `modes` in `tls` => did you mean `mode`?"),
        ("[[pool]]\nidle_timeout = \"5m\"\n", "1:3 [[pool]] is no list => write [pool]"),
        ("[rule]\naction = \"deny\"\n", "1:2 [rule] is a list => write [[rule]]"),
        ("[cache]\nenabled = \"yes\"\n", "2:11 `enabled` must be true or false, not a string"),
        ("[pool]\nidle_timeout = 300\n", "2:16 `idle_timeout` must be a duration like \"250ms\", \"1s\" or \"5m\", not a number"),
        ("[pool]\nidle_timeout = \"300\"\n", "2:16 `idle_timeout` has no unit => add one of ms, s, m, h, d"),
        ("[cache]\nmax_memory = \"256MB\"\n", "2:14 `max_memory` has the unknown unit `MB` => write \"256MiB\""),
        (
            "[routing]\nread_balance = \"round-robin\"\n",
            "2:16 `read_balance` cannot be \"round-robin\" => did you mean \"round_robin\"?",
        ),
        // The side of the clients
        ("[proxy]\nlisten = [\"0.0.0.0:3306\", \"nowhere\"]\n", "2:27 `listen` has no port => write it like \"nowhere:3306\""),
        ("[proxy]\nlisten = []\n", "2:10 `listen` is empty: no client could connect => write it like [\"0.0.0.0:3306\"]"),
        ("[proxy]\nlisten = \"127.0.0.1:6032\"\n", "2:1 "),
        (
            "[proxy]\nproxy_protocol_from = [\"10.0.0.0/99\"]\n",
            "2:24 `proxy_protocol_from` is not a network: \"10.0.0.0/99\" => write it like \"10.0.0.0/8\" or \"10.1.2.3\"",
        ),
        (
            "[proxy]\ntls = { mode = \"disabled\", client_ca = \"ca.pem\" }\n",
            "2:40 `client_ca` is not used with mode = \"disabled\" => write mode = \"preferred\" or \"required\", or leave it out",
        ),
        (
            "[proxy]\ntls = { mode = \"preferred\", client_ca = \"ca.pem\" }\n",
            "2:41 `client_ca` demands a certificate of every client, but mode = \"preferred\" lets them in without TLS => write mode = \"required\"",
        ),
        ("[proxy]\ntls.cert = \"ca.pem\"\n", "2:12 `cert` without `key` => add key = \"...\""),
        (
            "[proxy]\ntls.client_ca = \"none.pem\"\ntls.mode = \"required\"\n",
            "2:17 cannot read /etc/sluice/none.pem: No such file or directory => give a file that Sluice's user may read",
        ),
        // Passwords
        (
            "[monitor]\npassword_file = \"none\"\n",
            "2:17 cannot read /etc/sluice/none: No such file or directory => write the password into that file, readable for Sluice's user alone",
        ),
        (
            "[monitor]\npassword_file = \"roots.password\"\n",
            "2:17 cannot read /etc/sluice/roots.password: Permission denied => give it to the user that Sluice runs as, like chown sluice: /etc/sluice/roots.password",
        ),
        ("[monitor]\npassword_env = \"NONE\"\n", "2:16 the environment variable `NONE` is not set => set it for Sluice's process"),
        (
            "[monitor]\npassword_file = \"open.password\"\n",
            "warning 2:17 /etc/sluice/open.password may be read by every user of this machine (mode 0644) => chmod o= /etc/sluice/open.password",
        ),
        (
            "[monitor]\nheartbeat_interval = \"2s\"\n",
            "2:22 `heartbeat_timeout` (1s) is shorter than `heartbeat_interval` (2s) => every server would be suspect between two heartbeats; make the timeout several intervals long",
        ),
        (
            "[monitor]\nheartbeat_table = \"heartbeat\"\n",
            "2:19 `heartbeat_table` is not schema.table: \"heartbeat\" => write it like \"sluice.heartbeat\", or \"\" for none",
        ),
        (
            "[admin]\nlisten = \"0.0.0.0:6032\"\n",
            "2:10 the admin port 0.0.0.0:6032 can be reached from other machines and has no password => add `password_file` below [admin], or listen on 127.0.0.1",
        ),
        (
            "[admin]\nlisten = \"0.0.0.0:6032\"\npassword = \"\"\n",
            "3:12 the admin port 0.0.0.0:6032 can be reached from other machines and its password is empty => write one there, or listen on 127.0.0.1",
        ),
        (
            "[admin]\nlisten = \"0.0.0.0:6032\"\npassword_file = \"empty.password\"\n",
            "3:17 the admin port 0.0.0.0:6032 can be reached from other machines and its password is empty => write one there, or listen on 127.0.0.1",
        ),
        (
            "[admin]\nlisten = \"0.0.0.0:6032\"\npassword_env = \"EMPTY\"\n",
            "3:16 the admin port 0.0.0.0:6032 can be reached from other machines and its password is empty => write one there, or listen on 127.0.0.1",
        ),
        // Told once, as what it is.
        (
            "[admin]\nlisten = \"0.0.0.0:6032\"\npassword_env = \"NONE\"\n",
            "3:16 the environment variable `NONE` is not set => set it for Sluice's process",
        ),
        (
            "[http]\nlisten = \"127.0.0.1:6032\"\n",
            "2:10 127.0.0.1:6032 is already taken by `admin.listen` => give each its own port",
        ),
        // Servers: this one comes before db1
        (
            "[[server]]\nname = \"db1\"\naddress = \"h:1\"\n",
            "5:8 two servers are called \"db1\" => the first is number 1 of the list; names must differ",
        ),
        (
            "[[server]]\nname = \"db2\"\naddress = \"10.0.0.11:3306\"\n",
            "6:11 \"db2\" and \"db1\" have the same address 10.0.0.11:3306 => each server is listed once",
        ),
        ("[[server]]\naddress = \"h:1\"\n", "1:1 this server has no `name` => give it a name of its own, like name = \"db1\""),
        (
            "[[server]]\nname = \"a b\"\naddress = \"h:1\"\n",
            "2:8 \"a b\" cannot be a server's name => use 1 to 64 letters, digits, `_`, `-`, `.`",
        ),
        (
            "[[server]]\nname = \"x\"\naddress = \"h:1\"\ntls.mode = \"verify_ca\"\n",
            "4:12 \"verify_ca\" has nothing to verify the certificate with => add ca = \"/path/to/ca.pem\"",
        ),
        (
            "[[server]]\nname = \"x\"\naddress = \"h:1\"\ntls.ca = \"ca.pem\"\n",
            "4:10 `ca` is not used with mode = \"preferred\" => write mode = \"verify_ca\" or \"verify_identity\", or leave `ca` out",
        ),
        (
            "[[server]]\nname = \"x\"\naddress = \"0.0.0.0:3306\"\n",
            "3:11 the address of \"x\" is Sluice's own (proxy.listen) => give the address of the MySQL or MariaDB server",
        ),
        // A master that nobody may replace
        (
            "[[server]]\nname = \"x\"\naddress = \"h:1\"\n",
            "warning 7:8 no other server may take the place of \"db1\" when it dies => give role = \"master\" to its peer, too, or write promote_replicas = true below [failover]; mode = \"manual\" there leaves it to you",
        ),
        // Routing and rules
        (
            "[routing]\nzone = \"b\"\n",
            "warning 2:8 no server is in zone \"b\" => add zone = \"...\" to the servers that stand there, or leave it out",
        ),
        (
            "[routing]\nread_from_master = \"never\"\n",
            "2:20 \"never\" with a single server: no read could be answered => write \"fallback\", or add a replica",
        ),
        (
            "[[rule]]\nuser = \"x\"\n",
            "1:1 this rule has no `action` => add one of \"master\", \"replica\", \"server:NAME\", \"deny\", \"cache\", \"nocache\"",
        ),
        (
            "[[rule]]\naction = \"slave\"\n",
            "2:10 `action` cannot be \"slave\" => it is one of \"master\", \"replica\", \"server:NAME\", \"deny\", \"cache\", \"nocache\"",
        ),
        ("[[rule]]\naction = \"server:db11\"\n", "2:10 no server is called \"db11\" => did you mean \"server:db1\"?"),
        (
            "[[rule]]\npattern = \"(a\"\naction = \"deny\"\n",
            "2:11 `pattern` is no regular expression: unclosed group => see https://docs.rs/regex/#syntax; single quotes keep backslashes as they are",
        ),
        (
            "[[rule]]\ndigest = \"12345678901234567\"\naction = \"deny\"\n",
            "2:10 `digest` is no digest: \"12345678901234567\" => it is 1 to 16 hexadecimal digits, as SHOW STATEMENTS and EXPLAIN ROUTE print it",
        ),
        (
            "[[rule]]\ndigest = \"+f\"\naction = \"deny\"\n",
            "2:10 `digest` is no digest: \"+f\" => it is 1 to 16 hexadecimal digits, as SHOW STATEMENTS and EXPLAIN ROUTE print it",
        ),
        (
            "[[rule]]\nuser = \"x\"\naction = \"master\"\nmessage = \"no\"\n",
            "4:11 `message` is not used with action = \"master\" => it is what a denied client reads; leave it out, or write action = \"deny\"",
        ),
        (
            "[[rule]]\naction = \"master\"\n[[rule]]\naction = \"deny\"\n",
            "warning 2:10 this rule has no condition, so no later rule is ever reached => move it to the end",
        ),
        // Cache, users
        (
            "[cache]\nenabled = true\nstore = \"mongodb://x\"\n",
            "3:9 `store` names an unknown store => it is \"memory\", \"redis://host:6379\" or \"memcached://host:11211\"",
        ),
        ("[cache]\ninvalidate = [\"proxy\", \"binlgo\"]\n", "2:24 `invalidate` cannot be \"binlgo\" => did you mean \"binlog\"?"),
        (
            "[auth]\nsource = \"file\"\n",
            "2:10 \"file\" without a single [[user]]: nobody could log in => add [[user]] entries, or write source = \"servers\"",
        ),
        (
            "[auth]\nsource = \"file\"\n[[user]]\nname = \"app\"\n",
            "3:1 the user \"app\" has no password => add `password_file`; source = \"file\" asks no server. An account without a password is password = \"\"",
        ),
        ("[[user]]\nname = \"app\"\n[[user]]\nname = \"app\"\n", "4:8 two entries for the user \"app\" => make one of them"),
    ] {
        if text.contains("\"127.0.0.1:6032\"") && text.starts_with("[proxy]") {
            let got = said(&format!("{text}{SERVER}"));
            assert!(got.iter().any(|m| m.contains("127.0.0.1:6032 is already taken by `proxy.listen`")), "{got:?}");
            continue;
        }
        let got = said(&format!("{text}{SERVER}"));
        if got != [wanted] {
            wrong.push(format!("{text}  said   {got:?}\n  wanted {wanted:?}\n"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for fine in [
        "[[server]]\nname = \"x\"\naddress = \"h:1\"\nrole = \"master\"\n",
        "failover.promote_replicas = true\n[[server]]\nname = \"x\"\naddress = \"h:1\"\n",
        "failover.mode = \"manual\"\n[[server]]\nname = \"x\"\naddress = \"h:1\"\n",
    ] {
        assert_eq!(said(&format!("{fine}{SERVER}")), [""; 0], "{fine}");
    }
    assert_eq!(said(""), ["0:0 no [[server]] => name at least one: [[server]] with name, address and role = \"master\""]);
}

#[test]
fn broken_syntax_is_told_with_the_rest_and_never_panics() {
    let got = said("[proxy]\nlisten = [\n[monitor]\nusr = \"x\"\n");
    assert!(got[0].contains("not TOML: "), "{got:?}");
    assert!(!got.iter().any(|m| m.contains("no [[server]]")), "{got:?}");
    let whole = include_str!("../../config/sluice.toml").replace("\n#", "\n");
    for cut in (0..whole.len()).step_by(7).filter(|cut| whole.is_char_boundary(*cut)) {
        let _ = read(&whole[..cut]);
        let _ = read(&whole[cut..]);
    }
}

#[test]
fn passwords_come_from_three_places_and_are_never_shown() {
    for (text, password) in [
        ("password = \"hush\"", "hush"),
        ("password_file = \"monitor.password\"", "s3cr3t"),
        ("password_file = \"/etc/sluice/monitor.password\"", "s3cr3t"),
        ("password_env = \"SLUICE_PASSWORD\"", "from env"),
    ] {
        let config = read(&format!("[monitor]\n{text}\n{SERVER}")).unwrap();
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        assert_eq!(config.monitor.secret.expose(), password);
        assert!(!format!("{config:?}{}", config.to_toml()).contains(password), "{}", config.to_toml());
    }
}

/// Harm: `check` said "fine", and `run` ended with 1 and no line.
#[test]
fn certificates_that_do_not_fit_are_told_with_their_line() {
    let dir = std::env::temp_dir().join(format!("sluice-certificates-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    for name in ["a", "b"] {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(dir.join(format!("{name}.pem")), made.cert.pem()).unwrap();
        std::fs::write(dir.join(format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
    }
    std::fs::write(dir.join("empty.pem"), "").unwrap();
    let name = dir.join("sluice.toml").display().to_string();
    let said = |text: &str| match super::parse(&format!("{text}{SERVER}"), &name) {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.iter().map(|m| format!("{}:{} {}", m.line, m.column, m.message)).collect::<Vec<_>>(),
    };
    assert_eq!(said("[proxy]\ntls.cert = \"a.pem\"\ntls.key = \"a.key\"\n"), [""; 0]);
    for (text, wanted) in [
        ("[proxy]\ntls.cert = \"a.pem\"\ntls.key = \"b.key\"\n", "3:11 "),
        ("[proxy]\ntls.cert = \"empty.pem\"\ntls.key = \"a.key\"\n", "2:12 certificate "),
        ("[proxy]\ntls.cert = \"a.pem\"\ntls.key = \"a.pem\"\n", ""),
        ("[proxy]\ntls = { mode = \"required\", client_ca = \"a.key\" }\n", "2:40 certificate "),
        ("[[server]]\nname = \"x\"\naddress = \"h:1\"\ntls = { mode = \"verify_ca\", ca = \"empty.pem\" }\n", "4:34 certificate "),
        // Told once.
        ("[proxy]\ntls.cert = \"none.pem\"\ntls.key = \"a.key\"\n", "2:12 cannot read"),
    ] {
        let got = said(text);
        assert!(got.len() == 1 && got[0].starts_with(wanted), "{text}: {got:?}");
    }
    std::fs::remove_dir_all(dir).unwrap();
}

/// What is wrong with a file goes to the log, to `SHOW EVENTS` and to the status page when a reload is refused.
#[test]
fn mistakes_show_no_secret() {
    for text in [
        "[cache]\nenabled = true\nstore = \"redis://:s3cr3t@10.0.0.1:6379\"\ninvalidate = [\"proxy\"]\n",
        "[cache]\nenabled = true\nstore = \"redis://:s3cr3t@10.0.0.1:x\"\n",
        "[cache]\nenabled = true\nstore = \"redis://app:s3cr3t:6379\"\n",
        "[cache]\nenabled = true\nstore = \"redis://10.0.0.1/s3cr3t\"\n",
        "[cache]\nenabled = true\nstore = \"redis://10.0.0.1?password=s3cr3t\"\n",
        "[cache]\nenabled = true\nstore = \"mysql://a:s3cr3t@10.0.0.1\"\n",
        "[tracing]\notlp_endpoint = \"https://a:s3cr3t@10.0.0.1\"\n",
        "[monitor]\npasswrod = \"s3cr3t\"\n",
        "[monitor]\npasword.x = \"s3cr3t\"\n",
        "[monitor]\npassword = s3cr3t\n",
        "[monitor]\npassword = \"s3cr3t\n",
        "[monitor]\npassword \"s3cr3t\"\n",
        "[monitor]\npassword = [\n \"s3cr3t\"\n]\n",
        "[monitor]\nuser = \"a\" password = \"s3cr3t\"\n",
        "[admin]\npassword = \"s3cr3t\"\npassword = \"s3cr3t\"\n",
    ] {
        let mistakes = read(&format!("{text}{SERVER}")).expect_err(text);
        let shown: String = mistakes.iter().map(ToString::to_string).collect();
        assert!(!shown.contains("s3cr3t"), "{text}{shown}");
    }
}

/// `config/sluice.toml` as it is holds every default; with its `#key` lines made live it holds every key, and no other.
#[test]
fn the_file_and_the_types_are_in_step() {
    let text = include_str!("../../config/sluice.toml");
    let config = read(&format!("{text}\n{SERVER}")).unwrap_or_else(|m| panic!("{}", m[0]));
    assert!(config.warnings.is_empty());
    let default = Config { servers: config.servers.clone(), ..Config::default() };
    assert_eq!(config, default);

    // `#name = ` and `#[[name]]` are settings; `# text` is prose.
    let live: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let table: toml::Table = live.parse().unwrap();
    let mut in_file = BTreeSet::new();
    for (section, value) in &table {
        let one = value.as_array().and_then(|a| a.first()).unwrap_or(value).as_table().unwrap();
        for (key, value) in one {
            in_file.insert(format!("{section}.{key}"));
            if let Some(inner) = value.as_table() {
                in_file.extend(inner.keys().map(|k| format!("{section}.{key}.{k}")));
            }
        }
    }
    let in_types: BTreeSet<String> = keys::ALL.iter().flat_map(|(s, keys)| keys.iter().map(move |k| format!("{s}.{k}"))).collect();
    assert_eq!(in_file, in_types);

    // The types write out what they read: every key that is set comes back, under its name.
    let mut whole = read(&live.replace("/etc/sluice/", "").replace("password_file = \"", "#"))
        .err()
        .map(|mistakes| mistakes.iter().map(|m| m.message.clone()).collect::<Vec<_>>());
    if let Some(messages) = &mut whole {
        messages.retain(|m| m.starts_with("unknown"));
        assert!(messages.is_empty(), "{messages:?}");
    }
    // Every default written in a list's entry is the type's own.
    let entry = "[[server]]\nname = \"db1\"\naddress = \"10.0.0.11:3306\"\nrole = \"master\"\nzone = \"\"\nweight = 1\nmax_connections = 100\ncompression = \"off\"\ntls.mode = \"preferred\"\n";
    assert_eq!(read(entry).unwrap().servers, read(SERVER).unwrap().servers);
}

#[test]
fn what_is_written_out_reads_back_the_same() {
    let text = format!(
        "{SERVER}zone = \"a\"\ntls = {{ mode = \"verify_ca\", ca = \"ca.pem\" }}\n[[rule]]\nuser = \"report\"\nclient = \"10.1.0.0/16\"\npattern = '(?i)x'\naction = \"server:db1\"\n\
         [failover]\nmax_lost_transactions = 0\n[routing]\nzone = \"a\"\n[http]\nlisten = \"\"\n[proxy]\nlisten = \"unix:/run/sluice.sock\"\n\
         [[user]]\nname = \"app\"\npassword_env = \"SLUICE_PASSWORD\"\nhosts = [\"10.0.0.0/8\", \"10.1.2.3\"]\n"
    );
    let config = read(&text).unwrap_or_else(|m| panic!("{}", m[0]));
    assert_eq!(config.failover.max_lost_transactions, MaxLost::None);
    assert_eq!(read(&config.to_toml()).unwrap_or_else(|m| panic!("{}\n{}", m[0], config.to_toml())), config);
}

#[test]
fn reload_tells_what_differs() {
    let base = format!("[monitor]\npassword = \"one\"\n{SERVER}[[server]]\nname = \"db2\"\naddress = \"h:1\"\n");
    let old = read(&base).unwrap();
    let changed = |text: &str| diff(&old, &read(text).unwrap()).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(changed(&base).is_empty());
    // Moving an entry is no change.
    assert!(changed("[monitor]\npassword = \"one\"\n[[server]]\nname = \"db2\"\naddress = \"h:1\"\n[[server]]\nname = \"db1\"\naddress = \"10.0.0.11:3306\"\nrole = \"master\"\n").is_empty());
    assert_eq!(changed(&base.replace("\"one\"", "\"two\"")), ["monitor.password: ******** -> ********"]);
    assert_eq!(changed(&format!("{base}weight = 5\n")), ["server.db2.weight: 1 -> 5"]);
    assert_eq!(
        changed(&format!("{base}[proxy]\nlisten = \"0.0.0.0:3307\"\nmax_clients = 5\n")),
        [
            "proxy.listen: [\"0.0.0.0:3306\"] -> [\"0.0.0.0:3307\"] (needs a restart: the sockets are bound at start)",
            "proxy.max_clients: 10000 -> 5"
        ]
    );
    assert!(
        changed(&format!("{base}[[server]]\nname = \"db3\"\naddress = \"h:2\"\n"))
            .contains(&"server.db3.address: (not set) -> \"h:2\"".to_owned())
    );
    let new = read(&format!("{base}[pool]\nidle_timeout = \"1m\"\n")).unwrap();
    assert!(diff(&old, &new).iter().all(|change| change.restart.is_none()));
}

/// docs/configuration.md has every key in its section, with the default of config/sluice.toml, and marks what needs a restart.
#[test]
fn the_documentation_has_every_key() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/configuration.md")).unwrap();
    let sample: toml::Table = std::fs::read_to_string(root.join("config/sluice.toml")).unwrap().parse().unwrap();
    for (section, keys) in keys::ALL {
        // `server.tls` is told in the section of the servers.
        let (heading, prefix) = match *section {
            "server.tls" => ("server", "tls."),
            "proxy" => ("proxy", ""),
            other => (other, ""),
        };
        let heading = if keys::LISTS.contains(&heading) { format!("## `[[{heading}]]`") } else { format!("## `[{heading}]`") };
        let part = page.split("\n## ").find(|part| format!("## {part}").starts_with(&heading));
        let part = part.unwrap_or_else(|| panic!("docs/configuration.md has no {heading}"));
        for key in keys.iter().filter(|key| (*section, **key) != ("proxy", "tls")) {
            let row = part.lines().find(|line| line.starts_with(&format!("| `{prefix}{key}` |")));
            let row = row.unwrap_or_else(|| panic!("docs/configuration.md: {heading} lacks `{prefix}{key}`"));
            let default =
                section.split('.').try_fold(&toml::Value::Table(sample.clone()), |v, s| v.get(s)).and_then(|v| v.get(key)).cloned();
            if let Some(default) = default {
                assert!(row.contains(&format!("| `{default}` |")), "{section}.{key} is {default} by default, the page says {row}");
            }
            let restart = super::reload::needs_restart(&format!("{section}.{key}")).is_some();
            assert!(!restart || row.contains("| restart |"), "{section}.{key} needs a restart, the page does not say so");
        }
        for line in part.lines().filter(|line| line.starts_with("| `")) {
            let named = line.trim_start_matches("| `").split('`').next().unwrap_or_default();
            let known = keys.contains(&named) || (*section == "server" && named.starts_with("tls")) || *section == "server.tls";
            assert!(known, "docs/configuration.md: {heading} has `{named}`, which is no key");
        }
    }
}
