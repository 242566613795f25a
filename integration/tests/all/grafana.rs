//! Every query of every dashboard and alert against a real Prometheus that scrapes a real Sluice under load, and every
//! statement against its admin port: all of them must answer with data. The dashboards' JSON is checked for what Grafana needs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use integration::accounts::{APP, Account};
use integration::driver;
use integration::ports::free_port;
use integration::process::Process;
use integration::proxy::Proxy;
use mysql_async::prelude::Queryable;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::cluster;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../grafana")
}

fn dashboards() -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(root().join("dashboards")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        all.push((path.file_name().unwrap().to_string_lossy().into_owned(), serde_json::from_str(&text).unwrap()));
    }
    assert!(all.len() >= 2);
    all
}

/// All targets and annotations of a dashboard: what they belong to, and they themselves.
fn queries(board: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for panel in board["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            all.push((panel["title"].as_str().unwrap().to_owned(), target.clone()));
        }
    }
    for annotation in board["annotations"]["list"].as_array().unwrap() {
        let mut target = annotation["target"].clone();
        target["datasource"] = annotation["datasource"].clone();
        all.push((format!("annotation {}", annotation["name"]), target));
    }
    all
}

/// <https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/>
#[test]
fn dashboards_are_as_grafana_wants_them() {
    let datasources = std::fs::read_to_string(root().join("provisioning/datasources/sluice.yml")).unwrap();
    let mut uids = BTreeSet::new();
    for (file, board) in dashboards() {
        for key in ["uid", "title"] {
            assert!(board[key].as_str().is_some_and(|v| !v.is_empty() && v.len() <= 40), "{file}: {key}");
        }
        assert!(uids.insert(board["uid"].as_str().unwrap().to_owned()), "{file}: its uid is taken");
        assert!(board["schemaVersion"].as_u64().is_some_and(|v| v >= 36) && board["id"].is_null(), "{file}");
        for key in ["templating", "annotations"] {
            assert!(board[key]["list"].is_array(), "{file}: {key}");
        }
        let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
        for panel in board["panels"].as_array().unwrap() {
            let title = panel["title"].as_str().unwrap_or_else(|| panic!("{file}: a panel without a title"));
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{file}: {title}: its id is taken");
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
            assert!(w >= 1 && h >= 1 && x + w <= 24, "{file}: {title} stands outside of the 24 columns");
            for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(places.insert(place), "{file}: {title} covers another panel at {place:?}");
            }
            let kind = panel["type"].as_str().unwrap();
            if kind == "row" {
                continue;
            }
            let known = ["stat", "timeseries", "heatmap", "table", "state-timeline", "barchart"];
            assert!(known.contains(&kind), "{file}: {title}: a panel of type {kind}");
            assert!(
                panel["fieldConfig"]["defaults"].is_object() && panel["fieldConfig"]["overrides"].is_array(),
                "{file}: {title}"
            );
            let targets = panel["targets"].as_array().unwrap();
            let refs: BTreeSet<&str> = targets.iter().map(|t| t["refId"].as_str().unwrap()).collect();
            assert!(!targets.is_empty() && refs.len() == targets.len(), "{file}: {title}: refIds");
        }
        for (title, target) in queries(&board) {
            let uid = target["datasource"]["uid"].as_str().unwrap();
            assert!(datasources.contains(&format!("uid: {uid}\n")), "{file}: {title}: no data source {uid} is provisioned");
        }
    }
}

/// A Prometheus of the test's own.
struct Prometheus {
    _process: Process,
    port: u16,
}

impl Prometheus {
    async fn scraping(port_of_sluice: u16) -> Result<Prometheus> {
        let dir = integration::home::new_dir("prometheus")?;
        let port = free_port()?;
        let rules = std::fs::canonicalize(root().join("alerts.yml"))?;
        let config = dir.join("prometheus.yml");
        std::fs::write(
            &config,
            format!(
                "global: {{ scrape_interval: 500ms, evaluation_interval: 1s }}\nrule_files: [{rules:?}]\n\
                 scrape_configs: [{{ job_name: sluice, static_configs: [{{ targets: [\"127.0.0.1:{port_of_sluice}\"] }}] }}]\n"
            ),
        )?;
        let program = Path::new("/usr/bin/prometheus");
        if !program.is_file() {
            bail!("no prometheus on this machine. Run `tools/setup` (or: apt-get install prometheus)");
        }
        let args = [
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", dir.join("data").display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        let process = Process::start(program, &args, &[], &dir.join("log"))?;
        let prometheus = Prometheus { _process: process, port };
        let scraped = integration::wait::until_true("Prometheus has scraped", Duration::from_secs(30), async || {
            Ok(prometheus.ask("up == 1").await.is_ok_and(|found| !found.is_empty()))
        });
        scraped.await?;
        Ok(prometheus)
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).await?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).await?;
        let reply = String::from_utf8_lossy(&reply).into_owned();
        let (_, body) = reply.split_once("\r\n\r\n").context("not an HTTP reply")?;
        let value: Value = serde_json::from_str(body).with_context(|| format!("{path}: {body}"))?;
        if value["status"] != "success" {
            bail!("{}", value["error"]);
        }
        Ok(value["data"].clone())
    }

    /// The values of an instant query that are numbers.
    async fn ask(&self, expr: &str) -> Result<Vec<f64>> {
        let escaped: String = expr.bytes().map(|b| format!("%{b:02X}")).collect();
        let data = self.get(&format!("/api/v1/query?query={escaped}")).await?;
        let values = data["result"].as_array().context("no result")?.iter().filter_map(|s| s["value"][1].as_str()?.parse().ok());
        Ok(values.filter(|v: &f64| !v.is_nan()).collect())
    }
}

/// Clients that read, write, fail and are refused, until told to stop.
async fn load(proxy: Arc<Proxy>, stop: Arc<AtomicBool>) {
    let mut conn = proxy.connect("shop").await.unwrap();
    while !stop.load(Ordering::Relaxed) {
        for n in 0..5 {
            let _ = conn.query_drop(format!("SELECT COUNT(*) FROM items WHERE id > {n}")).await;
        }
        let _ = conn.query_drop("UPDATE items SET stock = stock WHERE id = 1").await;
        let _ = conn.query_drop("SELECT nothing FROM items").await;
        let _ = driver::connect(driver::options(proxy.port(), Account { name: APP.name, password: "wrong" })).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_and_every_alert_has_data() {
    // More clients than connections to the replicas: somebody waits.
    let proxy = Proxy::before(cluster()).server("db3", "max_connections", "1").server("db4", "max_connections", "1");
    let proxy = Arc::new(proxy.start().await.unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..4).map(|_| tokio::spawn(load(proxy.clone(), stop.clone()))).collect();
    // Somebody pinned, all the time; and what operators do, for the events.
    let mut pinned = proxy.connect("shop").await.unwrap();
    pinned.query_drop("BEGIN").await.unwrap();
    pinned.query_drop("SELECT COUNT(*) FROM items").await.unwrap();
    for command in ["DRAIN SERVER db4", "ONLINE SERVER db4"] {
        proxy.admin(command).await.unwrap();
    }
    let prometheus = Prometheus::scraping(proxy.http_port()).await.unwrap();

    let mut count = 0;
    for (file, board) in dashboards() {
        for (title, target) in queries(&board) {
            count += 1;
            match (target["expr"].as_str(), target["rawSql"].as_str()) {
                (Some(expr), None) => {
                    let chosen = expr.matches("instance=~\"$instance\"").count();
                    assert_eq!(chosen, expr.matches("sluice_").count(), "{file}: {title}: all of it is of the chosen proxies");
                    let expr = expr.replace("$__rate_interval", "10s").replace("$instance", ".*");
                    assert!(!expr.contains('$'), "{file}: {title}: {expr}");
                    // Rates need two scrapes; what never comes fails here with its name.
                    let data = integration::wait::until_true("data", Duration::from_secs(20), async || {
                        Ok(!prometheus.ask(&expr).await?.is_empty())
                    });
                    data.await.unwrap_or_else(|error| panic!("{file}: {title}: {expr}: {error:#}"));
                }
                (None, Some(sql)) => {
                    let between = "at BETWEEN FROM_UNIXTIME(UNIX_TIMESTAMP() - 3600) AND FROM_UNIXTIME(UNIX_TIMESTAMP() + 60)";
                    let sql = sql.replace("$__timeFilter(at)", between);
                    assert!(!sql.contains('$'), "{file}: {title}: {sql}");
                    let rows = integration::wait::until_true("rows", Duration::from_secs(10), async || {
                        Ok(!proxy.admin(&sql).await?.rows.is_empty())
                    });
                    rows.await.unwrap_or_else(|error| panic!("{file}: {title}: {sql}: {error:#}"));
                }
                _ => panic!("{file}: {title}: neither a query nor a statement: {target}"),
            }
        }
    }
    assert!(count > 40, "{count} queries");

    let rules = prometheus.get("/api/v1/rules").await.unwrap();
    let rules = rules["groups"][0]["rules"].as_array().unwrap().clone();
    assert!(rules.len() >= 10);
    for rule in rules {
        let expr = rule["query"].as_str().unwrap();
        // Without its comparison an alert asks for what it watches, which must be there.
        let (watched, _) = expr.rsplit_once(" == ").or_else(|| expr.rsplit_once(" > ")).unwrap_or_else(|| panic!("{expr}"));
        assert!(!prometheus.ask(watched).await.unwrap().is_empty(), "{}: nothing to watch: {watched}", rule["name"]);
        assert!(rule["annotations"]["summary"].is_string() && rule["annotations"]["description"].is_string(), "{rule}");
    }
    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.unwrap();
    }
}
