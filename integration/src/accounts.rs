//! The accounts and the schema every server of a cluster starts with. They are part of the data each server is copied from, so
//! they are on all servers before replication begins, and in no binary log.

use crate::flavour::Flavour;

/// A login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// User name; every account may come from any host.
    pub name: &'static str,
    /// Password in clear.
    pub password: &'static str,
}

/// Sluice's own account, with exactly the grants of [`monitor_grants`].
pub const MONITOR: Account = Account { name: "sluice", password: "sluice-monitor" };
/// What replication logs in with.
pub const REPLICATION: Account = Account { name: "repl", password: "repl" };
/// The application: everything on `shop`, `sbtest` and every schema whose name begins with `t_`.
pub const APP: Account = Account { name: "app", password: "password" };
/// May only read `shop`.
pub const REPORT: Account = Account { name: "report", password: "password" };
/// Has an empty password.
pub const EMPTY: Account = Account { name: "nopass", password: "" };
/// `mysql_native_password` by name; on MariaDB only, MySQL 9 has dropped that plugin.
pub const NATIVE: Account = Account { name: "native", password: "naïve ☃ pässword" };
/// `ed25519`; MariaDB only.
pub const ED25519: Account = Account { name: "ed", password: "password" };
/// `caching_sha2_password` by name; MySQL only.
pub const SHA2: Account = Account { name: "sha2", password: "naïve ☃ pässword" };
/// May log in only over TLS.
pub const TLS_ONLY: Account = Account { name: "tlsonly", password: "password" };

/// What Sluice's own account needs, statement by statement with the reason.
pub fn monitor_grants(flavour: Flavour) -> &'static [(&'static str, &'static str)] {
    match flavour {
        Flavour::MariaDb => &[
            ("GRANT SLAVE MONITOR ON *.* TO sluice", "role, lag and GTIDs of every server"),
            ("GRANT SELECT, INSERT, UPDATE, CREATE ON sluice.* TO sluice", "the heartbeat table"),
            ("GRANT READ_ONLY ADMIN ON *.* TO sluice", "failover: read_only on and off"),
            ("GRANT REPLICATION SLAVE ADMIN ON *.* TO sluice", "failover: who replicates from whom"),
            ("GRANT PROCESS, CONNECTION ADMIN ON *.* TO sluice", "failover: writers on a master that is replaced are ended"),
            ("GRANT REPLICATION MASTER ADMIN ON *.* TO sluice", "failover, semi-synchronous: nobody waits for a dead replica"),
            ("GRANT TRIGGER, SHOW VIEW ON *.* TO sluice", "cache: which tables change with which; shows no row"),
            ("GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO sluice", "cache: the binlog tells of writes that bypass Sluice"),
        ],
        Flavour::MySql => &[
            ("GRANT REPLICATION CLIENT ON *.* TO sluice", "role, lag and GTIDs of every server"),
            ("GRANT SELECT, INSERT, UPDATE, CREATE ON sluice.* TO sluice", "the heartbeat table"),
            ("GRANT SYSTEM_VARIABLES_ADMIN ON *.* TO sluice", "failover: read_only on and off"),
            ("GRANT REPLICATION_SLAVE_ADMIN ON *.* TO sluice", "failover: who replicates from whom"),
            ("GRANT PROCESS, CONNECTION_ADMIN ON *.* TO sluice", "failover: writers on a master that is replaced are ended"),
            ("GRANT SYSTEM_USER ON *.* TO sluice", "failover: what a dead master has half sent is rolled back at once"),
            ("GRANT TRIGGER, SHOW VIEW ON *.* TO sluice", "cache: which tables change with which; shows no row"),
            ("GRANT REPLICATION SLAVE ON *.* TO sluice", "cache: the binlog tells of writes that bypass Sluice"),
        ],
    }
}

/// All statements that turn a fresh data directory into the one the servers are copied from.
pub fn statements(flavour: Flavour) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut say = |statement: &str| all.push(statement.to_owned());
    let create = |account: Account| format!("CREATE USER {}@'%' IDENTIFIED BY '{}'", account.name, account.password);
    if flavour == Flavour::MariaDb {
        say("DELETE FROM mysql.global_priv WHERE User = ''"); // no anonymous users
        say("FLUSH PRIVILEGES");
    }
    for account in [MONITOR, REPLICATION, APP, REPORT, EMPTY] {
        say(&create(account));
    }
    match flavour {
        Flavour::MariaDb => {
            say(&format!("CREATE USER native@'%' IDENTIFIED VIA mysql_native_password USING PASSWORD('{}')", NATIVE.password));
            say("INSTALL SONAME 'auth_ed25519'");
            say(&format!("CREATE USER ed@'%' IDENTIFIED VIA ed25519 USING PASSWORD('{}')", ED25519.password));
        }
        Flavour::MySql => {
            say(&format!("CREATE USER sha2@'%' IDENTIFIED WITH caching_sha2_password BY '{}'", SHA2.password));
        }
    }
    say(&format!("{} REQUIRE SSL", create(TLS_ONLY)));
    for (statement, _why) in monitor_grants(flavour) {
        say(statement);
    }
    say("GRANT REPLICATION SLAVE ON *.* TO repl");
    for schema in ["shop", "sbtest"] {
        say(&format!("CREATE DATABASE {schema} CHARACTER SET utf8mb4"));
    }
    for user in ["app", "nopass", "tlsonly", flavour_user(flavour)] {
        for schemas in ["shop", "sbtest", r"`t\_%`"] {
            say(&format!("GRANT ALL ON {schemas}.* TO {user}"));
        }
    }
    if flavour == Flavour::MariaDb {
        say("GRANT ALL ON shop.* TO ed");
    }
    say("GRANT SELECT ON shop.* TO report");
    all.extend(SHOP.split(";\n").map(str::trim).filter(|statement| !statement.is_empty()).map(str::to_owned));
    all
}

/// The account that has its plugin by name.
fn flavour_user(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::MariaDb => NATIVE.name,
        Flavour::MySql => SHA2.name,
    }
}

/// The schema `shop`: 100 items, 20 customers, 40 orders of two lines each.
const SHOP: &str = "
CREATE TABLE shop.items (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  name VARCHAR(80) NOT NULL,
  price DECIMAL(10,2) NOT NULL,
  stock INT NOT NULL DEFAULT 0,
  note TEXT NULL,
  KEY (name)
);
CREATE TABLE shop.customers (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  name VARCHAR(80) NOT NULL,
  email VARCHAR(120) NOT NULL UNIQUE,
  since DATE NOT NULL
);
CREATE TABLE shop.orders (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  customer_id INT UNSIGNED NOT NULL,
  placed TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
  state ENUM('new','paid','sent') NOT NULL DEFAULT 'new',
  KEY (customer_id),
  CONSTRAINT FOREIGN KEY (customer_id) REFERENCES shop.customers (id)
);
CREATE TABLE shop.order_lines (
  order_id INT UNSIGNED NOT NULL,
  item_id INT UNSIGNED NOT NULL,
  quantity INT UNSIGNED NOT NULL,
  PRIMARY KEY (order_id, item_id),
  CONSTRAINT FOREIGN KEY (order_id) REFERENCES shop.orders (id),
  CONSTRAINT FOREIGN KEY (item_id) REFERENCES shop.items (id)
);
INSERT INTO shop.items (name, price, stock)
  WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
  SELECT CONCAT(ELT(1 + i % 5, 'red', 'green', 'blue', 'black', 'white'), ' ', ELT(1 + i % 4, 'kettle', 'lamp', 'chair', 'vase'), ' ', i),
         1 + i * 1.25, 1000 FROM n;
INSERT INTO shop.customers (name, email, since)
  WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20)
  SELECT CONCAT('Customer ', i), CONCAT('c', i, '@example.org'), '2020-01-01' + INTERVAL i MONTH FROM n;
INSERT INTO shop.orders (customer_id)
  WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40)
  SELECT 1 + i % 20 FROM n;
INSERT INTO shop.order_lines (order_id, item_id, quantity)
  SELECT id, id, 1 FROM shop.orders UNION ALL SELECT id, id + 50, 2 FROM shop.orders;
";
