//! What is shipped beside the program: the unit, the package, the container's files. There is no container engine here, so the
//! compose file's parts are tried one by one: its scripts on real servers, its configuration, the health check.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use integration::flavour::Flavour;
use integration::ports::free_port;
use integration::process::{Process, Signal};
use integration::proxy::Proxy;
use mysql_async::prelude::Queryable;

use crate::world::{cluster, proxy};

fn root() -> PathBuf {
    std::fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap()
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    output
}

/// The words behind `WORD ` at the beginning of a line of a file.
fn line(file: &str, word: &str) -> String {
    let text = std::fs::read_to_string(root().join(file)).unwrap();
    let found = text.lines().find_map(|line| line.trim_start().strip_prefix(word));
    found.unwrap_or_else(|| panic!("{file} has no line {word}")).trim().to_owned()
}

#[test]
fn systemd_takes_the_unit() {
    let dir = integration::home::new_dir("unit").unwrap();
    let text = std::fs::read_to_string(root().join("packaging/sluice.service")).unwrap();
    // It names the installed program, which is not installed here.
    let program = Proxy::program().unwrap();
    let unit = dir.join("sluice.service");
    std::fs::write(&unit, text.replace("/usr/bin/sluice", &program.display().to_string())).unwrap();
    let verified = run(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit));
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(!said.contains("sluice.service"), "{said}");
    std::fs::remove_dir_all(dir).unwrap();
}

#[tokio::test]
async fn the_service_manager_is_told() {
    let dir = integration::home::new_dir("notify").unwrap();
    let path = dir.join("socket");
    let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
    let proxy = Proxy::before(cluster()).env("NOTIFY_SOCKET", &path.display().to_string()).start().await.unwrap();
    let mut told = Vec::new();
    let mut hear = async |wanted: &str| {
        let mut buffer = [0; 128];
        while !told.iter().any(|t| t == wanted) {
            let heard = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut buffer)).await;
            let length = heard.unwrap_or_else(|_| panic!("{wanted} was not told, only {told:?}")).unwrap();
            told.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
    };
    hear("READY=1").await;
    hear("WATCHDOG=1").await;
    proxy.stop().unwrap();
    hear("STOPPING=1").await;
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn the_package_installs() {
    let dir = integration::home::new_dir("deb").unwrap();
    let program = Proxy::program().unwrap();
    let built = run(Command::new(root().join("packaging/build-deb")).arg(&program).arg(&dir));
    let package = String::from_utf8(built.stdout).unwrap().trim().to_owned();

    let target = dir.join("root");
    for part in ["var/lib/dpkg/info", "var/lib/dpkg/updates"] {
        std::fs::create_dir_all(target.join(part)).unwrap();
    }
    for part in ["var/lib/dpkg/status", "var/lib/dpkg/available"] {
        std::fs::write(target.join(part), "").unwrap();
    }
    let mut dpkg = Command::new("dpkg");
    dpkg.arg(format!("--root={}", target.display())).args(["--force-not-root", "--force-script-chrootless", "--force-depends"]);
    dpkg.arg(format!("--log={}", dir.join("log").display()));
    run(dpkg.args(["--install", &package]));

    for (file, mode) in [
        ("usr/bin/sluice", 0o755),
        ("etc/sluice/sluice.toml", 0o640),
        ("lib/systemd/system/sluice.service", 0o644),
        ("usr/share/doc/sluice/docs/configuration.md", 0o644),
        ("usr/share/doc/sluice/copyright", 0o644),
        ("usr/share/sluice/grafana/alerts.yml", 0o644),
        ("usr/share/sluice/grafana/dashboards/overview.json", 0o644),
    ] {
        let found = std::fs::metadata(target.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(found.permissions().mode() & 0o777, mode, "{file}");
    }
    let version = run(Command::new(target.join("usr/bin/sluice")).arg("--version"));
    assert_eq!(String::from_utf8_lossy(&version.stdout).trim(), format!("sluice {}", env!("CARGO_PKG_VERSION")));
    let info = run(Command::new("dpkg-deb").args(["--field", &package]));
    let info = String::from_utf8_lossy(&info.stdout).into_owned();
    assert!(info.contains("Package: sluice\n") && info.contains("Depends: libc6 (>= 2."), "{info}");
    std::fs::remove_dir_all(dir).unwrap();
}

#[tokio::test]
async fn the_containers_configuration_is_right_and_all_files_are_there() {
    for file in ["docker-compose.yml", "Dockerfile"] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        for path in text.split('"').filter_map(|part| part.strip_prefix("./")).filter_map(|part| part.split(':').next()) {
            assert!(root().join(path).exists(), "{file} mounts {path}, which is not there");
        }
        for path in text.lines().filter_map(|l| l.strip_prefix("COPY ")).filter(|l| !l.starts_with("--")) {
            let mut words: Vec<&str> = path.split(' ').collect();
            words.pop();
            for word in words {
                assert!(root().join(word).exists(), "{file} copies {word}, which is not there");
            }
        }
    }
    let mut check = Command::new(Proxy::program().unwrap());
    check.env("SLUICE_MONITOR_PASSWORD", "x").env("SLUICE_ADMIN_PASSWORD", "y");
    run(check.args(["check", "--config"]).arg(root().join("deploy/sluice.toml")));
    // The health check of the image, asked of a running proxy on its own port.
    let words = line("Dockerfile", "HEALTHCHECK");
    let words: Vec<String> = serde_json::from_str(words.split_once("CMD ").unwrap().1).unwrap();
    let ask = |port: u16| {
        let words: Vec<String> = words.iter().map(|w| w.replace("6070", &port.to_string())).collect();
        Command::new(&words[0]).args(&words[1..]).output().unwrap().status.success()
    };
    assert!(ask(proxy().http_port()));
    assert!(!ask(free_port().unwrap()));
}

/// Four empty servers and the script of the compose file make the cluster that its configuration expects.
#[tokio::test]
async fn the_compose_files_script_makes_a_cluster() {
    // The compose file runs MariaDB, so this does in every run.
    let install = integration::install::Install::find(Flavour::MariaDb).unwrap();
    let dir = integration::home::new_dir("compose").unwrap();
    let compose = std::fs::read_to_string(root().join("docker-compose.yml")).unwrap();
    let (mut servers, mut all_args) = (Vec::new(), Vec::new());
    for n in 1..=4 {
        let data = dir.join(format!("db{n}"));
        install.initialise(&data).unwrap();
        let port = free_port().unwrap();
        // The options stand in the file as a list that is also JSON.
        let after = compose.split_once(&format!("  db{n}:\n")).unwrap().1;
        let options = after.lines().find_map(|l| l.trim_start().strip_prefix("command: ")).unwrap();
        let mut args = vec!["--no-defaults".to_owned(), "--user=root".to_owned()];
        args.extend(serde_json::from_str::<Vec<String>>(options).unwrap());
        args.extend([
            format!("--datadir={}", data.display()),
            format!("--socket={}", data.join("s").display()),
            format!("--tmpdir={}", data.display()),
            format!("--port={port}"),
            "--bind-address=127.0.0.1".to_owned(),
            "--innodb-buffer-pool-size=16M".to_owned(),
        ]);
        all_args.push(args);
        servers.push(format!("127.0.0.1:{port}"));
    }
    let start = || -> Vec<Process> {
        let one =
            |(n, args): (u32, &Vec<String>)| Process::start(&install.server, args, &[], &dir.join(format!("log{n}"))).unwrap();
        (1..).zip(&all_args).map(one).collect()
    };
    let mut processes = start();
    for round in 0..3 {
        if round == 1 {
            // Servers that all start read-only are somebody's, too.
            let port = servers[0].trim_start_matches("127.0.0.1:");
            let mut client = Command::new("mariadb");
            run(client.args(["--skip-ssl", "-h127.0.0.1", "-uroot", "-e", "SET GLOBAL read_only = 1", "-P", port]));
        }
        let mut script = Command::new("sh");
        script.arg(root().join("deploy/replicate.sh")).env("SERVERS", servers.join(" "));
        for name in ["MONITOR_PASSWORD", "REPLICATION_PASSWORD", "APP_PASSWORD"] {
            script.env(name, "secret");
        }
        let said = tokio::task::spawn_blocking(move || run(&mut script)).await.unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert_eq!(said.contains("takes the writes"), round == 1, "{said}");
    }
    let text = std::fs::read_to_string(root().join("deploy/sluice.toml")).unwrap();
    let (http, admin, clients) = (free_port().unwrap(), free_port().unwrap(), free_port().unwrap());
    let mut text = text.replace("0.0.0.0:3306", &format!("127.0.0.1:{clients}"));
    text = text.replace("0.0.0.0:6032", &format!("127.0.0.1:{admin}")).replace("0.0.0.0:6070", &format!("127.0.0.1:{http}"));
    for (n, address) in servers.iter().enumerate() {
        text = text.replace(&format!("db{}:3306", n + 1), address);
    }
    let file = dir.join("sluice.toml");
    std::fs::write(&file, text).unwrap();
    let env = ["SLUICE_MONITOR_PASSWORD", "SLUICE_ADMIN_PASSWORD"].map(|n| (n.to_owned(), "secret".to_owned()));
    let args = ["run".to_owned(), "--config".to_owned(), file.display().to_string()];
    let start_sluice = || Process::start(&Proxy::program().unwrap(), &args, &env, &dir.join("log")).unwrap();
    let mut sluice = start_sluice();
    // The account may do all that the configuration has it do.
    let mut check = Command::new(Proxy::program().unwrap());
    check.args(["check", "--online", "--config"]).arg(&file).envs(env.clone());
    let said = tokio::task::spawn_blocking(move || run(&mut check)).await.unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.matches("ok  ").count() == 4 && !said.contains("WRONG"), "{said}");
    let app = integration::accounts::Account { name: "app", password: "secret" };
    let write = async |n: u32| {
        let mut conn = None;
        let wrote = integration::wait::until_true("a write goes through", Duration::from_secs(20), async || {
            let options = integration::driver::options(clients, app).db_name(Some("shop"));
            let mut new = integration::driver::connect(options).await?;
            new.query_drop("CREATE TABLE IF NOT EXISTS made (id INT PRIMARY KEY)").await?;
            new.query_drop(format!("REPLACE INTO made VALUES ({n})")).await?;
            conn = Some(new);
            Ok(true)
        });
        wrote.await.unwrap();
        let mut conn = conn.unwrap();
        let found: Vec<u32> = conn.query("/* sluice: master */ SELECT id FROM made ORDER BY id").await.unwrap();
        assert_eq!(found, (1..=n).collect::<Vec<u32>>());
        conn
    };
    let mut conn = write(1).await;
    let operator = integration::accounts::Account { name: "admin", password: "secret" };
    let mut admin = integration::driver::connect(integration::driver::options(admin, operator)).await.unwrap();
    integration::wait::until_true("db2 becomes the master", Duration::from_secs(20), async || {
        // Refused while db2 has not been seen to follow.
        let _ = admin.query_drop("SWITCHOVER TO db2").await;
        let role: Option<String> = admin.query_first("SELECT role FROM servers WHERE name = 'db2'").await?;
        Ok(role.as_deref() == Some("master"))
    })
    .await
    .unwrap();
    conn.query_drop("REPLACE INTO made VALUES (2)").await.unwrap();
    drop((conn, admin));
    // The machine starts anew.
    let _ = sluice.signal(Signal::Term);
    for process in &mut processes {
        process.signal(Signal::Term).unwrap();
    }
    for process in processes.iter_mut().chain([&mut sluice]) {
        process.wait(Duration::from_secs(20)).unwrap();
    }
    let (_servers, _sluice) = (start(), start_sluice());
    write(3).await;
}
