//! Which server has which number, over all reloads of the configuration.
//!
//! A number is a place in the pools, in the snapshots and in whatever else is kept for a server, so it is never given to another one: a server that
//! leaves the file keeps it (and its open connections until they end), one that comes in gets the next, and one that comes back as it was gets its own.
//! What is reached in another way (address, TLS, compression, PROXY header) is another server, though it has the same name.

use crate::backend::pools::SERVERS_MAX;
use crate::config::types::{Config, Server};

/// See the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Roster {
    slots: Vec<Server>,
}

impl Roster {
    /// The servers of the first configuration, in its order.
    ///
    /// # Errors
    /// More than [`SERVERS_MAX`].
    pub fn new(config: &Config) -> Result<Roster, String> {
        Roster { slots: Vec::new() }.next(config)
    }

    /// The servers of another configuration.
    ///
    /// # Errors
    /// More than [`SERVERS_MAX`] servers since the start of the process.
    pub fn next(&self, config: &Config) -> Result<Roster, String> {
        let mut slots: Vec<Server> = self.slots.iter().map(|old| Server { retired: true, ..old.clone() }).collect();
        let known = slots.len();
        for server in &config.servers {
            match slots.iter_mut().take(known).find(|old| is_reached_alike(old, server)) {
                Some(slot) => *slot = server.clone(),
                None => slots.push(server.clone()),
            }
        }
        if slots.len() > SERVERS_MAX {
            return Err(format!("{} servers were configured since the start; {SERVERS_MAX} are the most: restart", slots.len()));
        }
        Ok(Roster { slots })
    }

    /// This roster after `next` was refused: the numbers that it gave stay given, for pools were made under them, to servers that are not in the file.
    #[must_use]
    pub fn refused(&self, next: &Roster) -> Roster {
        let given = next.slots.iter().skip(self.slots.len()).map(|new| Server { retired: true, ..new.clone() });
        Roster { slots: self.slots.iter().cloned().chain(given).collect() }
    }

    /// The configuration with all servers there ever were, each at its number, those that left marked as [`Server::retired`].
    pub fn numbered(&self, config: &Config) -> Config {
        Config { servers: self.slots.clone(), ..config.clone() }
    }

    /// All servers; the index is the number.
    pub fn servers(&self) -> &[Server] {
        &self.slots
    }
}

fn is_reached_alike(a: &Server, b: &Server) -> bool {
    a.name == b.name
        && a.address == b.address
        && a.tls == b.tls
        && a.compression == b.compression
        && a.proxy_protocol == b.proxy_protocol
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::address::Address;

    fn config(servers: &[(&str, u16)]) -> Config {
        let server = |(name, port): &(&str, u16)| Server {
            name: (*name).to_owned(),
            address: Address::tcp("127.0.0.1", *port),
            ..Server::default()
        };
        Config { servers: servers.iter().map(server).collect(), ..Config::default() }
    }

    fn shown(roster: &Roster) -> String {
        let one = |s: &Server| format!("{}{}", s.name, if s.retired { "-" } else { "" });
        roster.servers().iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_number_is_never_given_to_another() {
        let mut roster = Roster::new(&config(&[("a", 1), ("b", 2), ("c", 3)])).unwrap();
        for (servers, expected) in [
            (&[("c", 3), ("a", 1), ("b", 2)][..], "a b c"),
            (&[("a", 1), ("c", 3)], "a b- c"),
            (&[("a", 1), ("c", 3), ("d", 4)], "a b- c d"),
            (&[("a", 1), ("b", 2), ("d", 4)], "a b c- d"),
            // at another address it is another server
            (&[("a", 9), ("b", 2)], "a- b c- d- a"),
            (&[("a", 1), ("b", 2)], "a b c- d- a-"),
        ] {
            roster = roster.next(&config(servers)).unwrap();
            assert_eq!(shown(&roster), expected);
        }
    }

    #[test]
    fn a_number_given_by_what_was_refused_is_not_given_again() {
        let roster = Roster::new(&config(&[("a", 1)])).unwrap();
        let refused = roster.refused(&roster.next(&config(&[("b", 2)])).unwrap());
        assert_eq!(shown(&refused), "a b-");
        assert_eq!(shown(&refused.next(&config(&[("a", 1), ("b", 3)])).unwrap()), "a b- b");
        assert_eq!(shown(&refused.next(&config(&[("a", 1), ("b", 2)])).unwrap()), "a b");
    }

    #[test]
    fn there_is_an_end_to_it() {
        let mut roster = Roster::new(&config(&[("a", 1)])).unwrap();
        for port in 2..=SERVERS_MAX as u16 {
            roster = roster.next(&config(&[("a", port)])).unwrap();
        }
        let error = roster.next(&config(&[("a", 60000)])).unwrap_err();
        assert!(error.contains("restart"), "{error}");
        assert!(roster.next(&config(&[("a", 7)])).is_ok());
    }
}
