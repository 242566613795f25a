//! What the documentation tells people to type is typed: statements for the admin port and for clients, and configuration files.

use integration::accounts::{APP, monitor_grants};
use integration::driver;
use integration::flavour::Flavour;
use integration::proxy::{ADMIN, Proxy};
use mysql_async::prelude::Queryable;

use crate::world::{cluster, proxy};

/// A fenced block: the page, the words behind the fence, the lines.
struct Block {
    page: String,
    mark: String,
    text: String,
}

fn blocks(mark: &str) -> Vec<Block> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
    let mut pages: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.retain(|path| path.extension().is_some_and(|e| e == "md"));
    pages.sort();
    let mut found = Vec::new();
    for path in pages {
        let page = path.file_name().unwrap().to_string_lossy().into_owned();
        let mut open: Option<Block> = None;
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            match (line.trim_start().strip_prefix("```"), open.take()) {
                (Some(_), Some(block)) => found.push(block),
                (Some(mark), None) => {
                    open = Some(Block { page: page.clone(), mark: mark.trim().to_owned(), text: String::new() });
                }
                (None, Some(mut block)) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                    open = Some(block);
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{page}: a block does not end");
    }
    found.retain(|block| block.mark == mark);
    found
}

fn statements(block: &Block) -> impl Iterator<Item = &str> {
    block.text.split(";\n").map(str::trim).filter(|sql| !sql.is_empty())
}

#[tokio::test]
async fn statements_for_the_admin_port_run() {
    let proxy = Proxy::before(cluster()).start().await.unwrap();
    let mut conn = driver::connect(driver::options(proxy.admin_port(), ADMIN)).await.unwrap();
    let mut count = 0;
    for block in blocks("sql admin") {
        for sql in statements(&block) {
            conn.query_drop(sql).await.unwrap_or_else(|error| panic!("{}: {sql}: {error}", block.page));
            count += 1;
        }
    }
    assert!(count > 40, "{count} statements were found");
}

#[tokio::test]
async fn statements_for_clients_run() {
    let mut conn = proxy().connect("shop").await.unwrap();
    let mut count = 0;
    for block in blocks("sql client") {
        for sql in statements(&block) {
            conn.query_drop(sql).await.unwrap_or_else(|error| panic!("{}: {sql}: {error}", block.page));
            count += 1;
        }
    }
    assert!(count > 5, "{count} statements were found for {APP:?}");
}

#[tokio::test]
async fn configuration_files_are_right() {
    let dir = integration::home::new_dir("docs").unwrap();
    for name in ["monitor.password", "admin.password"] {
        std::fs::write(dir.join(name), "secret\n").unwrap();
    }
    let all = blocks("toml file");
    assert!(!all.is_empty());
    for block in all {
        let file = dir.join("sluice.toml");
        std::fs::write(&file, block.text.replace("/etc/sluice", &dir.display().to_string())).unwrap();
        let (code, out, err) = Proxy::command(&["check", "--config", &file.display().to_string()]).await.unwrap();
        assert_eq!(code, 0, "{}: {out}{err}", block.page);
    }
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn the_grants_are_those_that_suffice() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/grants.md")).unwrap();
    for flavour in [Flavour::MariaDb, Flavour::MySql] {
        for (grant, _) in monitor_grants(flavour) {
            assert!(page.contains(&format!("{grant};")), "{flavour}: docs/grants.md lacks {grant}");
        }
    }
}

/// A link to a page or a heading that is not there.
#[test]
fn links_lead_somewhere() {
    let dir = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs"));
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { dir.join(file) };
            assert!(target.exists(), "{}: {link}", path.display());
            if !heading.is_empty() {
                let headings = std::fs::read_to_string(&target).unwrap().to_lowercase();
                assert!(headings.contains(&format!("# {}\n", heading.replace('-', " "))), "{}: {link}", path.display());
            }
        }
    }
}
