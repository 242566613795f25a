//! The cluster and the proxy all undisturbing tests share, and what they ask of them.

use std::sync::OnceLock;

use anyhow::Result;
use integration::cluster::Cluster;
use integration::driver::{self, Told};
use integration::flavour::Flavour;
use integration::proxy::{Proxy, ProxyBuilder};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

/// A read of a real table that also tells which server answered it: db1 is 1.
pub const WHERE_AM_I: &str = "SELECT @@server_id FROM shop.items WHERE id = 1";

/// The flavour of this run.
pub fn flavour() -> Flavour {
    Flavour::from_env().expect("FLAVOUR")
}

/// The shared cluster. It belongs to no test's runtime: it is started on a thread of its own, and at the end of the process
/// its servers are ended and removed (see `integration::process` and `integration::home`).
pub fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Result<Cluster, String>> = OnceLock::new();
    let cluster = CLUSTER.get_or_init(|| {
        apart(async || {
            let mut cluster = Cluster::start(flavour()).await?;
            cluster.undisturbed = true;
            Ok(cluster)
        })
    });
    cluster.as_ref().unwrap_or_else(|error| panic!("the shared cluster did not start: {error}"))
}

/// The shared proxy in front of it, with the default configuration but for what [`Cluster::undisturbed`] says.
pub fn proxy() -> &'static Proxy {
    static PROXY: OnceLock<Result<Proxy, String>> = OnceLock::new();
    let proxy = PROXY.get_or_init(|| {
        let builder = Proxy::before(cluster());
        apart(|| builder.start()).inspect(|proxy| tell_when_first_failed(proxy.log_path()))
    });
    proxy.as_ref().unwrap_or_else(|error| panic!("the shared proxy did not start: {error}"))
}

/// What the shared proxy has seen of its servers is told with the first test that fails: when these are not as all tests expect them, many
/// fail, and none of them knows why.
fn tell_when_first_failed(log: std::path::PathBuf) {
    static TOLD: std::sync::Once = std::sync::Once::new();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        TOLD.call_once(|| {
            let log = std::fs::read_to_string(&log).unwrap_or_else(|error| format!("not to be read: {error}\n"));
            let told: Vec<&str> = log.lines().filter(|line| line.contains(" sluice::events: ")).collect();
            eprintln!(
                "--- the last events of the shared proxy, until now ---\n{}\n---",
                told[told.len().saturating_sub(40)..].join("\n")
            );
        });
    }));
}

/// Runs a future on a runtime of its own, on a thread of its own.
fn apart<T: Send, F: Future<Output = Result<T>>>(work: impl FnOnce() -> F + Send) -> Result<T, String> {
    let run = || {
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(work())
    };
    std::thread::scope(|scope| scope.spawn(run).join().expect("no panic")).map_err(|error| format!("{error:#}"))
}

/// A cluster of the test's own, to do anything to, and a proxy in front of it.
pub async fn own(configure: impl FnOnce(ProxyBuilder) -> ProxyBuilder) -> (Cluster, Proxy) {
    let cluster = Cluster::start(flavour()).await.unwrap();
    let proxy = configure(Proxy::before(&cluster)).start().await.unwrap();
    (cluster, proxy)
}

/// A new, empty schema `t_NAME` on all servers of the shared cluster.
pub async fn schema(name: &str) -> String {
    schema_on(cluster(), name).await
}

/// A new, empty schema `t_NAME` on all servers of a cluster whose master is db1.
pub async fn schema_on(cluster: &Cluster, name: &str) -> String {
    let schema = format!("t_{name}");
    let statements = [&format!("DROP DATABASE IF EXISTS {schema}"), &format!("CREATE DATABASE {schema}")];
    cluster.server("db1").run(&statements.map(String::as_str)).await.unwrap();
    cluster.settle().await.unwrap();
    schema
}

/// Which server answers this client's reads now.
pub async fn where_am_i(conn: &mut Conn) -> u32 {
    conn.query_first(WHERE_AM_I).await.unwrap().expect("item 1 is there")
}

/// Waits until this client's reads go to a server other than db1; a replica that lags is not asked for a moment.
pub async fn reads_on_a_replica(conn: &mut Conn) {
    let limit = std::time::Duration::from_secs(20);
    integration::wait::until_true("a read on a replica", limit, async || Ok(where_am_i(conn).await != 1)).await.unwrap();
}

/// A client of the shared proxy and one straight at db1, both in `schema`.
pub async fn pair(schema: &str) -> (Conn, Conn) {
    let through = proxy().connect(schema).await.unwrap();
    let direct = driver::options(cluster().server("db1").port(), integration::accounts::APP).db_name(Some(schema));
    (through, driver::connect(direct).await.unwrap())
}

/// Asks the proxy and the server the same and requires that the client is told the same.
pub async fn same(through: &mut Conn, direct: &mut Conn, sql: &str) -> Told {
    let expected = driver::told(direct, sql).await.unwrap();
    let told = driver::told(through, sql).await.unwrap_or_else(|error| panic!("{sql}: {error:#}"));
    assert_eq!(told, expected, "through Sluice (left) and at the server (right): {sql:.200}");
    told
}
