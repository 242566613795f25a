"""The suites: for each its version and, for every test, how it ended at the master and how through Sluice."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree

from common import direct_connection
from servertest import ServerTests

HOME = os.environ.get("SLUICE_DRIVERS_DIR", "")
LIMIT_S = 900  # for a whole suite of a driver


def names(flavour):
    """The suites of a flavour, in the order they run."""
    both = ["pymysql", "mysqlclient", "sqlalchemy-pymysql", "sqlalchemy-mysqlclient"]
    return both + (["mariadb-client-test", "mariadb-test"] if flavour == "mariadb" else [])


def run(name, out, subset, only):
    """Version and `{test: (at the master, through Sluice)}` of a suite."""
    if name == "mariadb-test":
        return server_tests(out, subset, only)
    if name == "mariadb-client-test":
        return client_tests(out, only)
    return driver(name, out, subset)


# -- drivers whose tests run under pytest ------------------------------------------------------------------------------------


def pytest(folder, arguments, env, out, label):
    """Runs pytest to its end and reads how each test ended."""
    report = os.path.join(out, label + ".xml")
    if os.path.exists(report):
        os.remove(report)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-o", "addopts=", f"--junitxml={report}", *arguments]
    with open(os.path.join(out, label + ".log"), "wb") as log:
        try:
            subprocess.run(command, cwd=folder, env=os.environ | env, stdout=log, stderr=log, stdin=subprocess.DEVNULL, timeout=LIMIT_S, check=False)
        except subprocess.TimeoutExpired:
            log.write(f"\nstopped after {LIMIT_S} s\n".encode())
    found = {}
    if os.path.exists(report):
        for case in xml.etree.ElementTree.parse(report).iter("testcase"):
            kinds = {child.tag for child in case}
            kind = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
            found[f"{case.get('classname')}.{case.get('name')}"] = kind
    return found


def driver(name, out, subset):
    found = []
    for label, port in (("direct", os.environ["DIRECT_PORT"]), ("sluice", os.environ["PROXY_PORT"])):
        fresh_schemas()
        folder, arguments, env = PYTEST[name](port, out, subset)
        found.append(pytest(folder, arguments, env, out, label))
    direct, sluice = found
    return VERSIONS[name](), {test: (kind, sluice.get(test, "missing")) for test, kind in direct.items()}


def fresh_schemas():
    with direct_connection() as conn:
        cursor = conn.cursor()
        for schema in ("test", "test1", "test2", "test_schema", "test_schema_2"):
            cursor.execute(f"DROP DATABASE IF EXISTS {schema}")
            cursor.execute(f"CREATE DATABASE {schema} CHARACTER SET utf8mb4")


def account():
    return os.environ["DB_USER"], os.environ["DB_PASSWORD"]


def pymysql_tests(port, out, subset):
    folder = os.path.join(HOME, "source/PyMySQL")
    user, password = account()
    base = {"host": "127.0.0.1", "port": int(port), "user": user, "passwd": password, "use_unicode": True}
    with open(os.path.join(folder, "pymysql/tests/databases.json"), "w", encoding="utf-8") as text:
        json.dump([base | {"db": "test1", "local_infile": True}, base | {"db": "test2"}], text)
    return folder, ["pymysql/tests"], {}


def mysqlclient_tests(port, out, subset):
    user, password = account()
    config = os.path.join(out, "my.cnf")
    with open(config, "w", encoding="utf-8") as text:
        text.write(f"[MySQLdb-tests]\nhost=127.0.0.1\nport={port}\nuser={user}\npassword={password}\ndatabase=test\ndefault-character-set=utf8mb4\n")
    return os.path.join(HOME, "source/mysqlclient"), ["tests"], {"TESTDB": config}


def sqlalchemy_tests(dialect):
    def arguments(port, out, subset):
        user, password = account()
        url = f"mysql+{dialect}://{user}:{password}@127.0.0.1:{port}/test?charset=utf8mb4"
        tests = ["test/dialect/mysql"] if subset else ["test/dialect/mysql", "test/dialect/test_suite.py"]
        return os.path.join(HOME, "source/SQLAlchemy"), ["-p", "no:logging", "--maxfail=10000", f"--dburi={url}", *tests], {}

    return arguments


def installed(name):
    def version():
        from importlib.metadata import version as ask

        return f"{name} {ask(name)}"

    return version


PYTEST = {
    "pymysql": pymysql_tests,
    "mysqlclient": mysqlclient_tests,
    "sqlalchemy-pymysql": sqlalchemy_tests("pymysql"),
    "sqlalchemy-mysqlclient": sqlalchemy_tests("mysqldb"),
}
VERSIONS = {
    "pymysql": installed("PyMySQL"),
    "mysqlclient": installed("mysqlclient"),
    "sqlalchemy-pymysql": installed("SQLAlchemy"),
    "sqlalchemy-mysqlclient": installed("SQLAlchemy"),
}


# -- MariaDB's own -----------------------------------------------------------------------------------------------------------


def client_tests(out, only):
    """The C client's `mariadb-client-test`, one process for each test."""
    root = os.path.join(HOME, "mariadb-test")
    program = os.path.join(root, "usr/bin/mariadb-client-test")
    env = os.environ | {"LD_LIBRARY_PATH": os.path.join(root, "usr/lib/x86_64-linux-gnu")}
    listed = subprocess.run([program, "--no-defaults", "--show-tests"], env=env, capture_output=True, text=True, check=True)
    tests = only or [word.rstrip(";") for word in listed.stdout.split() if word.startswith("test_")]
    user, password = account()
    fresh_schemas()

    def one(test, label, port):
        command = [program, "--no-defaults", "--host=127.0.0.1", f"--port={port}", f"--user={user}", f"--password={password}"]
        command += [f"--vardir={out}", f"--basedir={root}/usr/share/mysql/mysql-test", test]
        os.makedirs(os.path.join(out, label), exist_ok=True)
        with open(os.path.join(out, label, test + ".log"), "wb") as log:
            try:
                done = subprocess.run(command, cwd=out, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL, timeout=60, check=False)
            except subprocess.TimeoutExpired:
                return "failed"
        return "passed" if done.returncode == 0 else "failed"

    found = {}
    for test in tests:
        direct = one(test, "direct", os.environ["DIRECT_PORT"])
        found[test] = (direct, one(test, "sluice", os.environ["PROXY_PORT"]) if direct == "passed" else "not run")
    return "MariaDB 10.11", found


def server_tests(out, subset, only):
    """MariaDB's own server suite with `mysqltest`."""
    suite = ServerTests(os.path.join(HOME, "mariadb-test"), out)
    tests = only or suite.tests(["main"])
    if subset and not only:
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "subset.txt"), encoding="utf-8") as text:
            wanted = set(text.read().split())
        tests = [test for test in tests if test in wanted]
    found = {}
    for test in tests:
        direct = suite.run(test, os.environ["DIRECT_PORT"], "direct")
        sluice = suite.run(test, os.environ["PROXY_PORT"], "sluice").kind if direct.kind == "passed" else "not run"
        found[test] = (direct.kind, sluice)
        if direct.kind == "passed" and sluice != "passed":
            print(f"mariadb-test: lost {test}", flush=True)
    return "MariaDB 10.11", found
