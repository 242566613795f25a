//! `mysql_servers` as `[[server]]`s: one for each address, whatever host groups it is in.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::read::Row;
use super::{Import, address, get, hostgroup, quoted};

impl Import<'_> {
    pub(super) fn servers(&mut self) {
        let rows = self.rows("mysql_servers");
        let mut order: Vec<String> = Vec::new();
        let mut by_address: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        for row in rows {
            let address = address(&row);
            if !order.contains(&address) {
                order.push(address.clone());
            }
            by_address.entry(address).or_default().push(row);
        }
        let mut names: BTreeSet<String> = BTreeSet::new();
        let mut masters = 0;
        for (index, address) in order.iter().enumerate() {
            let rows = by_address.remove(address).unwrap_or_default();
            let writer = rows.iter().any(|row| self.groups.writers.contains(hostgroup(row)));
            masters += usize::from(writer);
            // A comment that can be a name is one.
            let comment = rows.iter().find_map(|row| get(row, "comment")).unwrap_or_default().to_owned();
            let fit = |c: &str| !c.is_empty() && c.len() <= 64 && c.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
            let is_free = |name: &String| !names.contains(name);
            let numbered = || (index + 1..).map(|n| format!("db{n}")).find(is_free).unwrap_or_default();
            let name = if fit(&comment) && is_free(&comment) { comment } else { numbered() };
            names.insert(name.clone());
            let _ = write!(self.out, "\n[[server]]\nname = {}\naddress = {}\n", quoted(&name), quoted(address));
            self.key("role", if writer { "\"master\"" } else { "\"replica\"" });
            let reading = rows.iter().find(|row| !self.groups.writers.contains(hostgroup(row))).or(rows.first()).cloned();
            let reading = reading.unwrap_or_default();
            if let Some(weight) = get(&reading, "weight").filter(|w| !matches!(*w, "1" | "0"))
                && let Some(weight) = self.number(&format!("the weight of {name}"), weight, 1_000_000)
            {
                self.key("weight", weight);
            }
            let connections = rows.iter().filter_map(|r| get(r, "max_connections")?.parse::<u64>().ok()).max();
            if let Some(max) = connections
                && let Some(max) = self.number(&format!("max_connections of {name}"), &max.to_string(), 100_000)
            {
                self.key("max_connections", max);
            }
            if rows.iter().any(|row| get(row, "use_ssl") == Some("1")) {
                self.out.push_str("tls = { mode = \"required\" }\n");
            }
            for row in &rows {
                self.groups.members.entry(hostgroup(row).to_owned()).or_default().push(name.clone());
                if get(row, "weight") == Some("0") {
                    self.note(format!("{name} has weight 0 there, for no new connections; here DRAIN SERVER takes it out"));
                }
                let status = get(row, "status").unwrap_or("ONLINE");
                if status.starts_with("OFFLINE") {
                    self.note(format!(
                        "{name} is {status} there; here it is in use until DRAIN SERVER or OFFLINE SERVER says otherwise"
                    ));
                }
            }
        }
        match masters {
            0 => self.note("no server is in a host group of writers: say which are `role = \"master\"`"),
            1 if order.len() > 1 => self.note(
                "one server is in a host group of writers: nobody takes its place when it dies, unless its peer has `role = \"master\"`, too, or [failover] has \
                 promote_replicas = true",
            ),
            _ => {}
        }
        self.note("who is master now is not configured: of the servers with `role = \"master\"`, the one that is not read_only");
        if self.rows("mysql_servers").iter().any(|r| get(r, "weight").is_some_and(|w| w != "1")) {
            self.out.push_str("\n[routing]\nread_balance = \"weighted\"\n");
        }
    }
}
