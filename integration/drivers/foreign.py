"""Suites of drivers in other languages. Each is run by the language's own tool, and what that tells of each test is read."""

import glob
import json
import os
import re
import shutil
import time

import sources
from common import account, direct_connection, ended
from python_suites import Suite

LIMIT_S = 1500  # for a whole suite
FILE_LIMIT_S = 90  # for a file of tests that is run by itself


# -- Go ----------------------------------------------------------------------------------------------------------------------

GO_PACKAGE = "/usr/share/gocode/src/github.com/go-sql-driver/mysql"


def go():
    if not os.path.exists(GO_PACKAGE):
        raise sources.Unavailable("golang-github-go-sql-driver-mysql-dev is not installed")

    return sources.fetched("go-sql-driver", lambda folder: shutil.copytree(GO_PACKAGE, folder, dirs_exist_ok=True))


def go_at(port, out, label, only):
    user, password = account()
    env = {"MYSQL_TEST_USER": user, "MYSQL_TEST_PASS": password, "MYSQL_TEST_ADDR": f"127.0.0.1:{port}", "MYSQL_TEST_DBNAME": "gotest", "MYSQL_TEST_CONCURRENT": "1", "GOFLAGS": "-mod=mod", "GOPROXY": "off"}
    log = os.path.join(out, label + ".log")
    ended(["go", "test", "-json", "-vet=off", "-count=1", *(["-run", "|".join(only)] if only else [])], log, go(), env, LIMIT_S)
    found = {}
    with open(log, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if event.get("Test") and event.get("Action") in ("pass", "fail", "skip"):
                found[event["Test"]] = {"pass": "passed", "fail": "failed", "skip": "skipped"}[event["Action"]]
    return found


# -- Rust --------------------------------------------------------------------------------------------------------------------


def mysql_async():
    return sources.crate("mysql_async", "0.37.1")


def mysql_async_at(port, out, label, only):
    user, password = account()
    # Without `prefer_socket=false` it asks for @@socket, and talks to the server past Sluice from then on.
    env = {"DATABASE_URL": f"mysql://{user}:{password}@127.0.0.1:{port}/mysql?prefer_socket=false", "CARGO_TARGET_DIR": os.path.join(sources.HOME, "cargo"), "RUST_BACKTRACE": "0"}
    log = os.path.join(out, label + ".log")
    ended(["cargo", "test", "--lib", "--", "--test-threads=1", *only], log, mysql_async(), env, LIMIT_S)
    return cargo_lines(log)


def cargo_lines(log):
    """How tests ended, from what `cargo test` prints; those of a folder of tests with the name of their file before them."""
    found = {}
    with open(log, encoding="utf-8", errors="replace") as text:
        parts = re.split(r"^ +Running (?:unittests )?(\S+) .*$", text.read(), flags=re.M)
    for file, part in zip(parts[1::2], parts[2::2]):
        prefix = f"{os.path.basename(file)[:-3]}::" if file.startswith("tests/") else ""
        for name, end in re.findall(r"^test (\S+)(?: - should panic)? \.\.\. .*?(ok|FAILED|ignored)", part, re.M | re.S):
            found[prefix + name] = {"ok": "passed", "FAILED": "failed", "ignored": "skipped"}[end]
    return found


SQLX = "0.8.6"
SQLX_FEATURES = "any,mysql,macros,migrate,_unstable-all-types,runtime-tokio,tls-rustls-ring"
# Those of its checked macros are built against a server, one build for each, and `rustsec` sends some GiB: they are left out.
SQLX_TESTS = ["mysql", "mysql-types", "mysql-describe", "mysql-derives", "mysql-error", "mysql-test-attr", "mysql-migrate"]


def sqlx():
    return sources.repository("sqlx", "https://github.com/launchbadge/sqlx", f"v{SQLX}")


def sqlx_at(port, out, label, only):
    folder, (user, password) = sqlx(), account()
    with open(os.path.join(folder, "tests/mysql/setup.sql"), encoding="utf-8") as text, direct_connection(database="sqlx") as root:
        lines = [line for line in text.read().splitlines() if not line.startswith("--")]
        for statement in ["DROP USER IF EXISTS 'no_password'@'%'", *"\n".join(lines).split(";")]:
            if statement.strip():
                root.cursor().execute(statement)
    time.sleep(1)  # written past Sluice, which does not wait for replicas to have it
    # the toolchain that is here, and not the oldest one that the project names
    env = {"DATABASE_URL": f"mysql://{user}:{password}@127.0.0.1:{port}/sqlx", "RUSTUP_TOOLCHAIN": "stable"}
    env |= {"CARGO_TARGET_DIR": os.path.join(sources.HOME, "cargo-sqlx"), "CARGO_PROFILE_DEV_DEBUG": "0", "RUST_BACKTRACE": "0"}
    command = ["cargo", "test", "--locked", "--no-default-features", "--features", SQLX_FEATURES, "--no-fail-fast"]
    command += [word for test in SQLX_TESTS for word in ("--test", test)]
    log = os.path.join(out, label + ".log")
    ended([*command, "--", "--test-threads=1", *only], log, folder, env, LIMIT_S)
    return cargo_lines(log)


# -- PHP ---------------------------------------------------------------------------------------------------------------------


def php():
    members = [f"php-8.2.32/{path}" for path in ("ext/mysqli/tests", "ext/pdo_mysql/tests", "ext/pdo/tests", "run-tests.php")]
    return sources.debian("php8.2", "8.2.32-1~deb12u1", "bookworm", members)


def php_at(extension):
    def at(port, out, label, only):
        folder, (user, password) = php(), account()
        env = {
            "MYSQL_TEST_HOST": "127.0.0.1", "MYSQL_TEST_PORT": port, "MYSQL_TEST_USER": user, "MYSQL_TEST_PASSWD": password, "MYSQL_TEST_DB": "test",
            "PDO_MYSQL_TEST_DSN": f"mysql:host=127.0.0.1;port={port};dbname=test", "PDO_MYSQL_TEST_USER": user, "PDO_MYSQL_TEST_PASS": password,
            "PDO_MYSQL_TEST_HOST": "127.0.0.1", "PDO_MYSQL_TEST_PORT": port, "TEST_PHP_EXECUTABLE": shutil.which("php8.2") or "php", "NO_INTERACTION": "1", "SKIP_ONLINE_TESTS": "1",
        }
        tests = [f"ext/{extension}/tests/{test}.phpt" for test in only] or [f"ext/{extension}/tests"]
        report = os.path.join(out, label + ".txt")
        ended([env["TEST_PHP_EXECUTABLE"], "run-tests.php", "-q", "-W", report, "--set-timeout", "30", *tests], os.path.join(out, label + ".log"), folder, env, LIMIT_S)
        kinds = {"PASSED": "passed", "XFAILED": "passed", "SKIPPED": "skipped"}
        found = {}
        if os.path.exists(report):
            with open(report, encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    kind, _, test = line.strip().partition("\t")
                    if test:
                        found[os.path.basename(test).removesuffix(".phpt")] = kinds.get(kind, "failed")
        # what a failed test saw, for whoever looks into it
        for difference in glob.glob(os.path.join(folder, f"ext/{extension}/tests/*.diff")):
            shutil.move(difference, os.path.join(out, f"{label}-{os.path.basename(difference)}"))
        return found

    return at


# -- Perl --------------------------------------------------------------------------------------------------------------------


def perl():
    return sources.debian("libdbd-mysql-perl", "4.050-5", "bookworm")


def perl_at(port, out, label, only):
    """DBD::mysql's suite, one file after the other, with the driver of the Debian package."""
    folder, (user, password) = perl(), account()
    env = {"DBI_DSN": f"DBI:mysql:database=test;host=127.0.0.1;port={port}", "DBI_USER": user, "DBI_PASS": password}
    with open(os.path.join(folder, "t/mysql.mtest"), "w", encoding="utf-8") as text:
        text.write(f"""{{ local $opt = {{ 'testdb' => 'test', 'testhost' => '127.0.0.1', 'testport' => '{port}', 'testuser' => '{user}', 'testpassword' => '{password}' }};\n$::test_host = '127.0.0.1'; $::test_port = '{port}'; $::test_user = '{user}'; $::test_password = '{password}'; $::test_db = 'test'; $::test_dsn = "{env["DBI_DSN"]}";\n}} 1;\n""")
    logs = os.path.join(out, label)
    os.makedirs(logs, exist_ok=True)
    found = {}
    for test in sorted(glob.glob(os.path.join(folder, "t/*.t"))):
        name = os.path.basename(test).removesuffix(".t")
        if only and name not in only:
            continue
        log = os.path.join(logs, name + ".log")
        status = ended(["prove", "-v", test], log, folder, env, FILE_LIMIT_S)
        with open(log, encoding="utf-8", errors="replace") as text:
            is_skipped = "skipped: " in text.read().splitlines()[-1:][0] if os.path.getsize(log) else False
        found[name] = "failed" if status != 0 else "skipped" if is_skipped else "passed"
    return found


# -- Node --------------------------------------------------------------------------------------------------------------------

MYSQL2 = "3.23.4"


def mysql2():
    folder = sources.repository("mysql2", "https://github.com/sidorares/node-mysql2", f"v{MYSQL2}")
    if not os.path.exists(os.path.join(folder, "node_modules/tsx")):
        sources.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"], folder)
    return folder


def mysql2_at(port, out, label, only):
    """One process for each file of tests, as the suite's own runner does it."""
    folder, (user, password) = mysql2(), account()
    env = {"MYSQL_HOST": "127.0.0.1", "MYSQL_PORT": port, "MYSQL_USER": user, "MYSQL_PASSWORD": password, "MYSQL_DATABASE": "test", "CI": "1"}
    logs = os.path.join(out, label)
    os.makedirs(logs, exist_ok=True)
    found = {}
    tests = sorted(path for part in ("integration", "global") for path in glob.glob(os.path.join(folder, "test", part, "**/*.test.*ts"), recursive=True))
    for test in tests:
        name = os.path.relpath(test, os.path.join(folder, "test")).split(".test.")[0]
        if only and name not in only:
            continue
        log = os.path.join(logs, name.replace("/", "-") + ".log")
        found[name] = "passed" if ended(["node", "--import", "tsx", test], log, folder, env, FILE_LIMIT_S) == 0 else "failed"
    return found


def tool(name, get):
    """`get`, when the program is there."""

    def checked():
        if not shutil.which(name):
            raise sources.Unavailable(f"there is no {name}")
        return get()

    return checked


SUITES = [
    Suite("mysql2", f"mysql2 {MYSQL2}", tool("node", mysql2), mysql2_at),
    Suite("mysql_async", "mysql_async 0.37.1", tool("cargo", mysql_async), mysql_async_at),
    Suite("sqlx", f"sqlx {SQLX}", tool("cargo", sqlx), sqlx_at),
    Suite("go", "go-sql-driver 1.5.0", tool("go", go), go_at),
    Suite("mysqli", "PHP mysqli 8.2", tool("php", php), php_at("mysqli")),
    Suite("pdo_mysql", "PHP pdo_mysql 8.2", tool("php", php), php_at("pdo_mysql")),
    Suite("perl", "DBD::mysql 4.050", tool("prove", perl), perl_at),
]
