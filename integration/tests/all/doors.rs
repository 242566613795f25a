//! Where clients come in and servers are reached: unix sockets, and the PROXY protocol on both sides.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use integration::accounts::{APP, Account, EMPTY, NATIVE, REPORT, SHA2};
use integration::cluster::Cluster;
use integration::driver::{self, server_error};
use integration::flavour::Flavour;
use integration::ports::free_port;
use integration::proxy::Proxy;
use integration::raw::{RawClient, Reply};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::world::{cluster, flavour, proxy};

fn by_socket(path: &std::path::Path, account: Account) -> OptsBuilder {
    OptsBuilder::default().socket(Some(path.to_string_lossy().into_owned())).user(Some(account.name)).pass(Some(account.password))
}

#[tokio::test]
async fn clients_come_in_by_a_unix_socket() {
    let path = PathBuf::from(format!("/tmp/sluice-test-{}.sock", std::process::id()));
    // Left behind by a process that died.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let ports = (free_port().unwrap(), free_port().unwrap(), free_port().unwrap());
    let listen = format!("[\"unix:{}\", \"127.0.0.1:{}\"]", path.display(), ports.0);
    let proxy = Proxy::before(cluster()).set("proxy.listen", &listen).on_ports(ports.0, ports.1, ports.2).start().await.unwrap();
    for account in [APP, EMPTY, if flavour() == Flavour::MariaDb { NATIVE } else { SHA2 }] {
        for _ in 0..2 {
            let mut conn = Conn::new(by_socket(&path, account)).await.unwrap();
            let user: String = conn.query_first("SELECT CURRENT_USER()").await.unwrap().unwrap();
            assert_eq!(user, format!("{}@%", account.name));
            let clients = proxy.admin("SHOW CLIENTS").await.unwrap();
            assert_eq!(clients.cell("user", account.name, "host"), Some("localhost"), "{}", clients.framed());
            conn.disconnect().await.unwrap();
        }
    }
    proxy.stop().unwrap();
    assert!(!path.exists(), "the socket's file is removed at the end");
}

#[tokio::test]
async fn servers_are_reached_by_unix_sockets() {
    let cluster = Cluster::start(flavour()).await.unwrap();
    let mut builder = Proxy::before(&cluster);
    for server in cluster.servers() {
        builder = builder.reach(server.name(), &format!("unix:{}", server.socket().display()));
    }
    let me = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap().trim().to_owned();
    if flavour() == Flavour::MariaDb {
        // Over the socket the server would judge the user that Sluice runs as.
        let create = format!("CREATE USER IF NOT EXISTS '{me}'@'localhost'");
        let trust = format!("ALTER USER '{me}'@'localhost' IDENTIFIED VIA unix_socket");
        cluster.server("db1").run(&[&create, &trust]).await.unwrap();
        cluster.settle().await.unwrap();
    }
    let proxy = builder.start().await.unwrap();
    for account in [APP, EMPTY, if flavour() == Flavour::MariaDb { NATIVE } else { SHA2 }] {
        for _ in 0..3 {
            let mut conn = proxy.connect_with(proxy.options(account)).await.unwrap();
            conn.query_drop("SELECT COUNT(*) FROM shop.items").await.unwrap();
        }
        let wrong = Account { password: "wrong", ..account };
        let refused = proxy.connect_with(proxy.options(wrong)).await.expect_err("a wrong password");
        assert_eq!(server_error(refused.downcast_ref().unwrap()).unwrap().0, 1045);
    }
    if flavour() == Flavour::MariaDb {
        let me: &'static str = me.leak();
        for password in ["", "anything"] {
            let refused = proxy.connect_with(proxy.options(Account { name: me, password })).await.expect_err("not by trust");
            assert_eq!(server_error(refused.downcast_ref().unwrap()).unwrap().0, 1698, "{refused:#}");
        }
    }
}

/// A load balancer: a port whose connections reach the proxy behind `header`, which is sent in two pieces.
async fn balancer(proxy: &Proxy, header: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, target) = (listener.local_addr().unwrap().port(), proxy.port());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let header = header.clone();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", target)).await?;
                server.set_nodelay(true)?;
                let (head, tail) = header.split_at(header.len() / 2);
                server.write_all(head).await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
                server.write_all(tail).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    port
}

fn v1(address: &str) -> Vec<u8> {
    format!("PROXY TCP4 {address} 127.0.0.1 5000 3306\r\n").into_bytes()
}

fn v2(command: u8, address: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, 0x11, 0, 12 + 6]);
    header.extend(address);
    header.extend([127, 0, 0, 1, 0x13, 0x88, 0x0c, 0xea]);
    header.extend([5, 0, 3, b'a', b'b', b'c']); // an extension: the connection's name
    header
}

const FROM_HERE: &str = "[\"127.0.0.0/8\"]";

#[tokio::test]
async fn a_proxy_header_tells_the_client() {
    let users = "[[user]]\nname = \"report\"\nhosts = [\"10.0.0.0/8\"]\n";
    let proxy = Proxy::before(cluster()).more(users);
    // The harness asks the admin and HTTP ports, which take no header.
    let proxy = proxy.set("proxy.proxy_protocol_from", FROM_HERE).start().await.unwrap();
    for (header, host) in [
        (v1("10.1.2.3"), Some("10.1.2.3")),
        (v2(1, [10, 1, 2, 4]), Some("10.1.2.4")),
        (v1("192.168.0.9"), None),
        (v2(0, [10, 1, 2, 3]), None), // LOCAL: the balancer itself
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
    ] {
        let port = balancer(&proxy, header.clone()).await;
        let login = driver::connect(driver::options(port, REPORT)).await;
        match host {
            Some(host) => {
                let mut conn = login.unwrap_or_else(|e| panic!("{header:?}: {e:#}"));
                conn.query_drop("SELECT COUNT(*) FROM shop.items").await.unwrap();
                let clients = proxy.admin("SHOW CLIENTS").await.unwrap();
                assert_eq!(clients.cell("user", "report", "host"), Some(host), "{}", clients.framed());
                conn.disconnect().await.unwrap();
            }
            None => {
                let refused = login.expect_err("not from there");
                assert_eq!(server_error(refused.downcast_ref().unwrap()).unwrap().0, 1045, "{refused:#}");
            }
        }
    }
    for garbage in [&b"\x05\0\0\x01hello and what not"[..], b"PROXY TCP4 nonsense\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"] {
        let mut raw = RawClient::dial(proxy.port()).await.unwrap();
        raw.send_bytes(garbage).await.unwrap();
        let reply = raw.receive().await.unwrap();
        let (code, text) = reply.error().unwrap_or_else(|| panic!("{garbage:?}: {reply:?}"));
        assert!(code == 1043 && text.contains("PROXY protocol header"), "{code} {text}");
    }
}

#[tokio::test]
async fn a_proxy_header_from_anybody_else_is_refused() {
    let mut raw = RawClient::dial(proxy().port()).await.unwrap();
    raw.send_bytes(&v1("10.1.2.3")).await.unwrap();
    let greeting = raw.receive().await.unwrap();
    assert!(matches!(greeting, Reply::Packet(0, _)) && greeting.error().is_none());
    assert!(raw.receive().await.unwrap().is_refusal());
    proxy().connect("shop").await.unwrap();
}

#[tokio::test]
async fn servers_are_told_the_clients_address() {
    for version in ["v1", "v2"] {
        if flavour() == Flavour::MySql {
            // MySQL takes no such header: it is never ready, and says so instead of hanging.
            let proxy =
                Proxy::before(cluster()).every_server("proxy_protocol", &format!("{version:?}")).start_unready().await.unwrap();
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert_ne!(proxy.get("/readyz").await.unwrap().0, 200);
            continue;
        }
        let cluster = Cluster::start(flavour()).await.unwrap();
        for server in cluster.servers() {
            server.run(&["SET GLOBAL proxy_protocol_networks = '127.0.0.1'"]).await.unwrap();
        }
        let accounts = [
            "CREATE USER told@'10.1.2.3' IDENTIFIED BY 'first'",
            "CREATE USER told@'10.1.2.4' IDENTIFIED BY 'second'",
            "GRANT SELECT ON shop.* TO told@'10.1.2.3'",
            "GRANT SELECT ON sbtest.* TO told@'10.1.2.4'",
        ];
        cluster.server("db1").run(&accounts).await.unwrap();
        cluster.settle().await.unwrap();
        let proxy = Proxy::before(&cluster)
            .set("proxy.proxy_protocol_from", FROM_HERE)
            .every_server("proxy_protocol", &format!("{version:?}"))
            .start()
            .await
            .unwrap();
        for _ in 0..2 {
            for (address, password, may, may_not) in
                [("10.1.2.3", "first", "shop", "sbtest"), ("10.1.2.4", "second", "sbtest", "shop")]
            {
                let port = balancer(&proxy, v1(address)).await;
                let account = Account { name: "told", password };
                let mut conn = driver::connect(driver::options(port, account).db_name(Some(may))).await.unwrap();
                for statement in ["SELECT USER()", "SELECT CURRENT_USER()"] {
                    let user: String = conn.query_first(statement).await.unwrap().unwrap();
                    assert_eq!(user, format!("told@{address}"), "{version} {statement}");
                }
                let refused = driver::connect(driver::options(port, account).db_name(Some(may_not))).await.expect_err("no right");
                assert_eq!(server_error(refused.downcast_ref().unwrap()).unwrap().0, 1044);
                let other = Account { name: "told", password: if password == "first" { "second" } else { "first" } };
                let refused = driver::connect(driver::options(port, other)).await.expect_err("the other account's password");
                assert_eq!(server_error(refused.downcast_ref().unwrap()).unwrap().0, 1045);
            }
        }
    }
}
