//! The status page in a real browser without a window: Chromium loads it, runs it, and says what stands there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use integration::proxy::Proxy;
use mysql_async::prelude::Queryable;

use crate::world::{cluster, proxy};

fn browser() -> PathBuf {
    let found = ["/usr/bin/chromium", "/usr/bin/chromium-browser"].iter().map(Path::new).find(|path| path.is_file());
    found.expect("no chromium on this machine. Run `tools/setup` (or: apt-get install chromium)").to_owned()
}

/// Chromium with a profile of its own, on the proxy's page, for some virtual seconds.
async fn chromium(proxy: &Proxy, more: &[String]) -> String {
    let profile = integration::home::new_dir("chromium").unwrap();
    let mut command = Command::new(browser());
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        "--virtual-time-budget=5000",
    ]);
    command.arg(format!("--user-data-dir={}", profile.display())).args(more);
    command.arg(format!("http://127.0.0.1:{}/", proxy.http_port()));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let _ = std::fs::remove_dir_all(profile);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_shows_what_is_there() {
    let proxy = Proxy::before(cluster()).start().await.unwrap();
    let mut pinned = proxy.connect("shop").await.unwrap();
    pinned.query_drop("BEGIN").await.unwrap();
    pinned.query_drop("SELECT COUNT(*) FROM items").await.unwrap();
    // A statement that tries to be part of the page; nothing of it may be.
    let mut conn = proxy.connect("shop").await.unwrap();
    conn.query_drop("SELECT 1 AS `<img src=x onerror=alert(1)>`, COUNT(*) FROM items").await.unwrap();
    proxy.admin("SET SERVER db4 WEIGHT 3").await.unwrap();

    let page = chromium(&proxy, &["--dump-dom".to_owned()]).await;
    for text in ["db1", "db4", "master", "standby", "replica", ">ready<", "transaction", "SET SERVER db4 WEIGHT 3", "statements/s"]
    {
        assert!(page.contains(text), "the page does not show {text:?}:\n{page}");
    }
    assert!(page.contains("<path class=\"copy\""), "replication is drawn:\n{page}");
    assert!(page.contains("&lt;img src=x") && !page.contains("<img"), "a statement is text:\n{page}");
    assert!(page.contains("class=\"good\">ready</span>"), "{page}");
}

/// Wide and narrow, as the documentation shows them. With `SLUICE_SCREENSHOTS=DIR` they are left there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_is_painted_wide_and_narrow() {
    let busy = async {
        let mut conn = proxy().connect("shop").await.unwrap();
        let mut pinned = proxy().connect("shop").await.unwrap();
        pinned.query_drop("BEGIN").await.unwrap();
        pinned.query_drop("SELECT id FROM items WHERE id = 2 FOR UPDATE").await.unwrap();
        loop {
            for n in 0..20 {
                conn.query_drop(format!("SELECT COUNT(*) FROM items WHERE id > {n}")).await.unwrap();
            }
            conn.query_drop("UPDATE items SET stock = stock WHERE id = 1").await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let pictures = async {
        let dir = integration::home::new_dir("pictures").unwrap();
        for (name, size) in [("status-wide.png", "1200,1500"), ("status-phone.png", "400,1500")] {
            let file = dir.join(name);
            chromium(proxy(), &[format!("--screenshot={}", file.display()), format!("--window-size={size}")]).await;
            let picture = std::fs::read(&file).unwrap();
            assert!(picture.starts_with(b"\x89PNG") && picture.len() > 20_000, "{name}: {} bytes", picture.len());
            if let Some(kept) = std::env::var_os("SLUICE_SCREENSHOTS") {
                std::fs::copy(&file, Path::new(&kept).join(name)).unwrap();
            }
        }
        std::fs::remove_dir_all(dir).unwrap();
    };
    tokio::select! {
        () = busy => {}
        () = pictures => {}
    }
}
