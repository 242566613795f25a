//! The house rules that a machine can hold: which room may use which, what pure rooms may not know, how long files may be.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms in the order of `src/lib.rs`: a room uses rooms before it, never those after it.
const ROOMS: [&str; 19] = [
    "protocol", "sql", "auth", "topology", "binlog", "session", "routing", "cache", "clock", "metrics", "net", "stores", "backend",
    "monitor", "frontend", "admin", "config", "cli", "run",
];
/// The rooms that decide. What they may not know of, and why.
const PURE: [&str; 8] = ["protocol", "sql", "auth", "topology", "binlog", "session", "routing", "cache"];
const BANNED_IN_PURE: [(&str, &str); 13] = [
    (".await", "a pure room waits for nothing"),
    ("async fn", "a pure room waits for nothing"),
    ("tokio::", "a pure room has no runtime"),
    ("std::net::TcpStream", "a pure room has no socket"),
    ("Instant::now()", "time is an argument"),
    ("SystemTime::now()", "time is an argument"),
    ("std::fs::", "a pure room reads no file"),
    ("tracing::", "a pure room returns what happened, it does not log it"),
    ("prometheus::", "a pure room counts nothing"),
    // Keys and paddings are the libraries' own business (`auth::rsa`); nothing is decided by them.
    ("rand::", "chance is an argument"),
    ("::rand", "chance is an argument"),
    ("getrandom", "chance is an argument"),
    ("OsRng", "chance is an argument"),
];
/// Lines of a file; tests may be longer.
const LINES_MAX: usize = 500;
const TEST_LINES_MAX: usize = 900;

fn files(under: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(under) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<(String, PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&src, &mut found);
    found.sort();
    assert!(found.len() > 50, "the sources were not found under {}", src.display());
    found
        .into_iter()
        .map(|path| {
            let within = path.strip_prefix(&src).expect("found under src").to_owned();
            let first = within.components().next().expect("a file has a name").as_os_str().to_string_lossy().into_owned();
            let room = first.trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).expect("a source file can be read");
            (room, within, text)
        })
        .collect()
}

fn is_test(path: &Path) -> bool {
    path.components().any(|c| c.as_os_str() == "tests") || path.file_stem().is_some_and(|s| s == "tests" || s == "fixtures")
}

/// A file without its tests and comments.
fn code(text: &str) -> String {
    let before_tests = text.split("\n#[cfg(test)]").next().unwrap_or(text);
    before_tests.lines().map(|line| line.split("//").next().unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

fn place(room: &str) -> Option<usize> {
    ROOMS.iter().position(|r| *r == room)
}

#[test]
fn a_room_uses_only_rooms_before_it() {
    let mut wrong = Vec::new();
    for (room, path, text) in sources() {
        if is_test(&path) || room == "lib" || room == "main" {
            continue;
        }
        let here = place(&room).unwrap_or_else(|| panic!("src/{}: the room `{room}` is not in the list of rooms", path.display()));
        for (number, line) in code(&text).lines().enumerate() {
            let mut rest = line;
            while let Some(at) = rest.find("crate::") {
                rest = &rest[at + "crate::".len()..];
                if rest.starts_with('{') {
                    wrong.push(format!("src/{}:{}: `crate::{{`; one `use` for each room", path.display(), number + 1));
                }
                let used: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if let Some(there) = place(&used)
                    && there > here
                {
                    wrong.push(format!("src/{}:{}: `{room}` uses `{used}`, which stands after it", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_rooms_do_nothing() {
    let mut wrong = Vec::new();
    for (room, path, text) in sources() {
        if !PURE.contains(&room.as_str()) || is_test(&path) {
            continue;
        }
        for (number, line) in code(&text).lines().enumerate() {
            for (word, why) in BANNED_IN_PURE {
                if line.contains(word) {
                    wrong.push(format!("src/{}:{}: `{word}` in `{room}`: {why}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Workers have no clock of their own (see `net::timer`), and run their tasks themselves (see `net::tasks`): tokio's timers panic there, and a task of
/// tokio's waits for the reactor's turn. What is named behind the last is never run on a worker.
#[test]
fn what_runs_on_workers_uses_their_own_timers_and_tasks() {
    const TOKIOS: [(&str, &str, &[&str]); 6] = [
        ("tokio::time", "`crate::net::timer`", &["net/timer.rs"]),
        ("tokio::spawn", "`crate::net::tasks::beside`", &["net/tasks.rs", "frontend/listener.rs", "frontend/bounds.rs"]),
        ("runtime::Handle", "`crate::net::tasks`", &["net/tasks.rs", "net/timer.rs", "frontend/workers.rs"]),
        ("yield_now", "`crate::net::tasks::consume_budget`", &["net/tasks.rs"]),
        ("coop::", "`crate::net::tasks`", &["net/tasks.rs"]),
        ("tokio::task::consume_budget", "`crate::net::tasks`", &[]),
    ];
    let mut wrong = Vec::new();
    for (room, path, text) in sources() {
        if !["net", "backend", "frontend", "cache"].contains(&room.as_str()) || is_test(&path) {
            continue;
        }
        for (number, line) in code(&text).lines().enumerate() {
            for (what, instead, but) in TOKIOS {
                if line.contains(what) && !but.iter().any(|known| path.ends_with(known)) {
                    wrong.push(format!("src/{}:{}: `{what}`; use {instead}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is under way in the kernel is known to one room.
#[test]
fn only_net_knows_of_the_ring() {
    let of_others = |(room, path, text): (String, PathBuf, String)| {
        (room != "net" && code(&text).contains("sluice_ring"))
            .then(|| format!("src/{}: `sluice_ring`; use `crate::net`", path.display()))
    };
    let wrong: Vec<String> = sources().into_iter().filter_map(of_others).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_file_is_one_idea() {
    let mut wrong = Vec::new();
    let mut ring = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("ring/src"), &mut ring);
    assert!(!ring.is_empty(), "ring/src has no files");
    let ring = ring.into_iter().map(|path| {
        let text = fs::read_to_string(&path).expect("a source file can be read");
        (String::from("ring"), path, text)
    });
    for (_, path, text) in sources().into_iter().chain(ring) {
        let (lines, limit) = (text.lines().count(), if is_test(&path) { TEST_LINES_MAX } else { LINES_MAX });
        if lines > limit {
            wrong.push(format!("src/{}: {lines} lines, at most {limit}", path.display()));
        }
        if !is_test(&path) && !text.starts_with("//!") {
            wrong.push(format!("src/{}: does not say what it is (`//!`)", path.display()));
        }
        let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        if ["util", "utils", "helper", "helpers", "common", "manager", "misc"].contains(&name.as_str()) {
            wrong.push(format!("src/{}: a name that says nothing", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_map_names_every_room_in_order() {
    let map = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).expect("src/lib.rs");
    let declared: Vec<&str> = map.lines().filter_map(|l| l.strip_prefix("pub mod ")).map(|l| l.trim_end_matches(';')).collect();
    let expected: Vec<&str> = ROOMS.iter().copied().filter(|r| declared.contains(r)).collect();
    let (mut pos, mut wrong) = (0, Vec::new());
    for room in ROOMS {
        match map[pos..].find(&format!("//!  {room} ")) {
            Some(at) => pos += at,
            None => wrong.push(format!("src/lib.rs: the map does not name `{room}` in its place")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(declared.len(), expected.len(), "a room is declared that the list of rooms does not know: {declared:?}");
}

#[test]
fn every_error_of_the_table_is_used() {
    let sources = sources();
    let errno = Path::new("protocol/errno.rs");
    let (_, _, table) = sources.iter().find(|(_, path, _)| path == errno).expect("src/protocol/errno.rs");
    let names: Vec<&str> = table.lines().filter_map(|l| l.trim_start().split_once(" = ")).map(|(name, _)| name).collect();
    let names: Vec<&str> = names.into_iter().filter(|name| name.starts_with("ER_")).collect();
    assert!(names.len() > 50, "{names:?}");
    let used: String =
        sources.iter().filter(|(_, path, _)| path != errno && !is_test(path)).map(|(_, _, text)| code(text)).collect();
    let words: std::collections::HashSet<&str> = used.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let idle: Vec<&str> = names.into_iter().filter(|name| !words.contains(name)).collect();
    assert!(idle.is_empty(), "of protocol::errno nobody uses {}", idle.join(", "));
}
