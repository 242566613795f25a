//! `integration/cases/*.test`: statements with what they answer, asked at the server and through the proxy, which must tell the
//! client the same: rows, columns with their metadata, affected rows, insert ids, warnings, status flags, errors.
//!
//! Each file runs in the text protocol and, where statements can be prepared, in the binary one. Through the proxy it has four
//! connections a server, and between any two of its statements other clients with other settings use and hold some of them, so
//! that its sessions move. `CASE=name` in the environment runs one file.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};
use integration::cases::{Case, Step, What};
use integration::cluster::Cluster;
use integration::proxy::Proxy;
use integration::witness::{Answer, UTF8MB4, Wire};

use crate::world::{cluster, flavour};

/// Where the files are.
fn files() -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut files: Vec<(String, String)> = std::fs::read_dir(&dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "test"))
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    files.sort();
    let only = std::env::var("CASE").unwrap_or_default();
    files.retain(|(name, _)| only.is_empty() || *name == only);
    assert!(!files.is_empty(), "no case in {}", dir.display());
    files
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    /// `COM_QUERY`; EOF packets.
    Text,
    /// `COM_STMT_PREPARE` and `COM_STMT_EXECUTE`; no EOF packets.
    Binary,
}

/// One way of asking: the port, and through the proxy those who disturb.
struct Way<'a> {
    port: u16,
    protocol: Protocol,
    proxy: Option<&'a Proxy>,
    disturbance: Option<Disturbance>,
    clients: HashMap<String, Wire>,
}

/// Clients with other settings, two of which hold a connection of the master in turns.
struct Disturbance {
    holders: [Wire; 2],
    turn: usize,
}

impl Disturbance {
    async fn new(port: u16, protocol: Protocol) -> Result<Disturbance> {
        let binary = protocol == Protocol::Binary;
        let mut holders = [Wire::connect(port, "shop", UTF8MB4, binary).await?, Wire::connect(port, "", UTF8MB4, binary).await?];
        for (index, holder) in holders.iter_mut().enumerate() {
            let mode = ["ANSI_QUOTES", "NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT"][index];
            let zone = ["+07:00", "-03:30"][index];
            for sql in [
                "USE t_disturbance",
                "SET NAMES latin1",
                "SET @a = 'disturbed', @b = 4711, @x = 'disturbed', @n = -1",
                "SET SESSION sql_select_limit = 1000, lc_time_names = 'de_DE', max_sort_length = 2000",
                &format!("SET time_zone = '{zone}', sql_mode = '{mode}'"),
            ] {
                let answer = holder.query(sql.as_bytes()).await?;
                anyhow::ensure!(answer.error.is_none(), "{sql}: {answer:?}");
            }
        }
        Ok(Disturbance { holders, turn: 0 })
    }

    /// Leaves every kind of trace, and another connection held than before.
    async fn disturb(&mut self) -> Result<()> {
        self.turn += 1;
        let (now, before) = (self.turn % 2, (self.turn + 1) % 2);
        // writes, ids, counts and warnings of its own, then a transaction that keeps the connection
        for sql in [
            "INSERT INTO t (n) VALUES (1), (2), (3)",
            "BEGIN",
            "SELECT SQL_CALC_FOUND_ROWS CAST(name AS SIGNED) FROM shop.items LIMIT 2",
        ] {
            self.holders[now].query(sql.as_bytes()).await?;
        }
        for sql in ["ROLLBACK", "DELETE FROM t WHERE n = 'x'", "SELECT CAST('y' AS SIGNED) FROM shop.items LIMIT 1"] {
            self.holders[before].query(sql.as_bytes()).await?;
        }
        Ok(())
    }
}

impl Way<'_> {
    async fn client(&mut self, name: &str, schema: &str, collation: u8) -> Result<&mut Wire> {
        if !self.clients.contains_key(name) {
            let wire = Wire::connect(self.port, schema, collation, self.protocol == Protocol::Binary).await?;
            self.clients.insert(name.to_owned(), wire);
        }
        Ok(self.clients.get_mut(name).expect("just inserted"))
    }

    /// Runs one case in a schema made for it.
    async fn run(&mut self, case: &Case, schema: &str, cluster: &Cluster) -> Result<Vec<(Step, Answer)>> {
        let db1 = cluster.server("db1");
        db1.run(&[&format!("DROP DATABASE IF EXISTS {schema}"), &format!("CREATE DATABASE {schema} CHARACTER SET utf8mb4")])
            .await?;
        cluster.settle().await?;
        let mut current = "main".to_owned();
        let mut answers = Vec::new();
        for step in &case.steps {
            if let (What::Sql(_) | What::Command(..), Some(disturbance)) = (&step.what, &mut self.disturbance) {
                disturbance.disturb().await?;
            }
            let protocol = self.protocol;
            let answer = match &step.what {
                What::Sql(sql) => {
                    let client = self.client(&current, schema, UTF8MB4).await?;
                    match protocol {
                        Protocol::Text => client.query(sql).await,
                        Protocol::Binary => client.prepared(sql).await,
                    }
                }
                What::Command(code, payload) => self.client(&current, schema, UTF8MB4).await?.command(*code, payload).await,
                What::Connection(name, collation) => {
                    cluster.settle().await?;
                    current.clone_from(name);
                    self.client(name, schema, *collation).await?;
                    continue;
                }
                What::Root(sql) => {
                    db1.run(&[sql]).await?;
                    cluster.settle().await?;
                    continue;
                }
                What::Pinned(expected) => {
                    if let Some(proxy) = self.proxy {
                        let id = self.client(&current, schema, UTF8MB4).await?.id.to_string();
                        let mut said = None;
                        // What a session takes along is asked for after the client has its reply.
                        for _ in 0..20 {
                            let clients = proxy.admin("SHOW CLIENTS").await?;
                            let reason = clients.cell("id", &id, "pin_reason").filter(|cell| !matches!(*cell, "" | "NULL"));
                            said = reason.map(str::to_owned);
                            if said == *expected {
                                break;
                            }
                            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                        }
                        if said != *expected {
                            let line = format!("SHOW CLIENTS says {said:?} instead of {expected:?}");
                            answers.push((step.clone(), Answer { lines: vec![line], ..Answer::default() }));
                            continue;
                        }
                    }
                    answers.push((step.clone(), Answer::default()));
                    continue;
                }
            };
            let answer = answer.with_context(|| format!("line {}", step.line))?;
            if answer.closed {
                self.clients.remove(&current);
            }
            answers.push((step.clone(), answer));
        }
        self.clients.clear();
        Ok(answers)
    }
}

fn shown(step: &Step) -> String {
    match &step.what {
        What::Sql(sql) => String::from_utf8_lossy(sql).into_owned(),
        other => format!("{other:?}"),
    }
}

/// What differs between the two, and where the file is wrong about the server.
fn compare(case: &Case, protocol: Protocol, direct: &[(Step, Answer)], through: &[(Step, Answer)]) -> Vec<String> {
    let mut wrong = Vec::new();
    for ((step, there), (_, here)) in direct.iter().zip(through) {
        let place = format!("{}.test:{}: {}", case.name, step.line, shown(step));
        if protocol == Protocol::Text {
            let rows: Vec<String> = there.rows.iter().map(|row| row.join(" | ")).collect();
            if step.rows.as_ref().is_some_and(|expected| *expected != rows) {
                wrong.push(format!("{place}\n  the file says {:?}, the server {rows:?}", step.rows.as_ref().unwrap()));
            }
            if step.error != there.error {
                wrong.push(format!("{place}\n  the file says error {:?}, the server {:?}", step.error, there.lines));
            }
        }
        if there != here {
            let protocol = if protocol == Protocol::Text { "text" } else { "binary" };
            let mut text = format!("{place}\n  {protocol} protocol");
            let only = |a: &Answer, b: &Answer| a.lines.iter().filter(|line| !b.lines.contains(line)).cloned().collect::<Vec<_>>();
            for (who, lines) in [("server ", only(there, here)), ("through", only(here, there))] {
                for line in lines.iter().take(6) {
                    text.push_str(&format!("\n    {who}  {line:.400}"));
                }
            }
            wrong.push(text);
        }
    }
    wrong
}

async fn run_all(protocol: Protocol) {
    let cluster = cluster();
    let letter = if protocol == Protocol::Text { "c" } else { "b" };
    let proxy = Proxy::before(cluster).every_server("max_connections", "4").start().await.unwrap();
    static PREPARED: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    PREPARED
        .get_or_init(async || {
            let statements = [
                "CREATE DATABASE IF NOT EXISTS t_disturbance",
                "CREATE TABLE IF NOT EXISTS t_disturbance.t (id INT AUTO_INCREMENT PRIMARY KEY, n INT)",
            ];
            cluster.server("db1").run(&statements).await.unwrap();
            cluster.settle().await.unwrap();
        })
        .await;
    let mut wrong = Vec::new();
    for (name, text) in files() {
        let case = Case::parse(&name, &text, flavour()).unwrap();
        let schema = format!("t_{letter}_{name}");
        let way = |port, proxy, disturbance| Way { port, protocol, proxy, disturbance, clients: HashMap::new() };
        let mut direct = way(cluster.server("db1").port(), None, None);
        let there = match direct.run(&case, &schema, cluster).await {
            Ok(there) => there,
            Err(error) => {
                wrong.push(format!("{name} at the server: {error:#}"));
                continue;
            }
        };
        let disturbance = Disturbance::new(proxy.port(), protocol).await.unwrap();
        let mut through = way(proxy.port(), Some(&proxy), Some(disturbance));
        match through.run(&case, &schema, cluster).await {
            Ok(here) => wrong.extend(compare(&case, protocol, &there, &here)),
            Err(error) => wrong.push(format!("{name} through the proxy: {error:#}")),
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn cases_in_the_text_protocol() {
    run_all(Protocol::Text).await;
}

#[tokio::test]
async fn cases_in_the_binary_protocol() {
    run_all(Protocol::Binary).await;
}
