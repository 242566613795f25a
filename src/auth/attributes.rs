//! Connection attributes: what a client's library tells of itself at login, and a server shows in
//! `performance_schema.session_connect_attrs`.
//!
//! A server connection shows those of the client it was opened for, and is later used by others of the same account; so what is
//! true of one process or thread only is left out.

/// Name and value.
pub type Attribute = (String, String);

/// The most bytes passed on, names and values together. Servers keep 512 by default (`performance_schema_session_connect_attrs_size`)
/// and drop the rest; libraries send some 200.
pub const PASSED_ON_LEN_MAX: usize = 2048;
/// True of one process, thread or machine; and the name of a server, which is Sluice's.
const NOT_SHARED: &[&str] = &["_pid", "_thread", "_server_host"];

/// What a server is told on behalf of a client that told `attributes`: those others can share, in order, as far as they fit; that
/// it comes by way of Sluice; and where no program is named, Sluice as the program.
pub fn passed_on(attributes: &[Attribute]) -> Vec<Attribute> {
    let mut all = vec![("sluice".to_owned(), env!("CARGO_PKG_VERSION").to_owned())];
    let mut left = PASSED_ON_LEN_MAX;
    for (name, value) in attributes {
        let len = name.len() + value.len();
        if name.is_empty() || name == "sluice" || NOT_SHARED.contains(&name.as_str()) || len > left {
            continue;
        }
        left -= len;
        all.push((name.clone(), value.clone()));
    }
    if !all.iter().any(|(name, _)| name == "program_name") {
        all.push(("program_name".to_owned(), "sluice".to_owned()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(attributes: &[(&str, &str)]) -> Vec<Attribute> {
        passed_on(&attributes.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect::<Vec<_>>())
    }

    #[test]
    fn what_a_server_is_told() {
        let names = |all: Vec<Attribute>| {
            all.into_iter().map(|(n, v)| format!("{n}={v}")).filter(|a| !a.starts_with("sluice=")).collect::<Vec<_>>()
        };
        assert_eq!(names(told(&[])), ["program_name=sluice"]);
        let client = [("_client_name", "libmysql"), ("_pid", "17"), ("program_name", "app"), ("_os", "Linux"), ("sluice", "mine")];
        assert_eq!(names(told(&client)), ["_client_name=libmysql", "program_name=app", "_os=Linux"]);
        assert!(told(&client).iter().any(|(n, v)| n == "sluice" && v != "mine"), "that it is Sluice, nobody else says");
    }

    #[test]
    fn a_flood_of_attributes_is_cut() {
        let long = "x".repeat(1500);
        let flood = [("a", long.as_str()), ("b", long.as_str()), ("program_name", "app")];
        let sent = told(&flood);
        assert!(sent.iter().any(|(n, _)| n == "a") && !sent.iter().any(|(n, _)| n == "b"));
        assert!(sent.iter().any(|(n, v)| n == "program_name" && v == "app"), "what still fits is kept");
        let many: Vec<Attribute> = (0..100_000).map(|n| (n.to_string(), String::new())).collect();
        assert!(passed_on(&many).len() < PASSED_ON_LEN_MAX);
    }
}
