"""Suites that run under Python: those of its drivers, of SQLAlchemy and of Django."""

import glob
import json
import os
import re
import sys
import xml.etree.ElementTree
from dataclasses import dataclass, field
from typing import Callable

import sources
from common import account, ended

BOTH = ("mariadb", "mysql")
LIMIT_S = 1500  # for a whole suite


@dataclass
class Suite:
    """`at(port, out, label, only)` runs it and tells `{test: passed | failed | skipped}`; `get` brings its sources."""

    name: str
    version: str
    get: Callable[[], str]
    at: Callable[[str, str, str, list], dict]
    flavours: tuple = field(default=BOTH)

    def prepare(self):
        self.get()


def pytest(folder, arguments, env, out, label, only):
    """Runs pytest to its end and reads how each test ended."""
    report = os.path.join(out, label + ".xml")
    if os.path.exists(report):
        os.remove(report)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-o", "addopts=", f"--junitxml={report}", *arguments]
    command += ["-k", " or ".join(only)] if only else []
    ended(command, os.path.join(out, label + ".log"), folder, env, LIMIT_S)
    found = {}
    if os.path.exists(report):
        for case in xml.etree.ElementTree.parse(report).iter("testcase"):
            kinds = {child.tag for child in case}
            kind = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
            found[f"{case.get('classname')}.{case.get('name')}"] = kind
    return found


def pymysql_source(version, of_repository):
    if of_repository:
        return lambda: sources.repository("PyMySQL", "https://github.com/PyMySQL/PyMySQL", f"v{version}")
    return lambda: sources.pypi("PyMySQL", version, is_installed=False)


def pymysql(get):
    def at(port, out, label, only):
        folder = get()
        user, password = account()
        base = {"host": "127.0.0.1", "port": int(port), "user": user, "passwd": password, "use_unicode": True}
        with open(os.path.join(folder, "pymysql/tests/databases.json"), "w", encoding="utf-8") as text:
            json.dump([base | {"db": "test1", "database": "test1", "local_infile": True}, base | {"db": "test2", "database": "test2"}], text)
        return pytest(folder, ["pymysql/tests"], {"PYTHONPATH": folder}, out, label, only)

    return at


def mysqlclient_at(port, out, label, only):
    user, password = account()
    config = os.path.join(out, "my.cnf")
    with open(config, "w", encoding="utf-8") as text:
        text.write(f"[MySQLdb-tests]\nhost=127.0.0.1\nport={port}\nuser={user}\npassword={password}\ndatabase=test\ndefault-character-set=utf8mb4\n")
    return pytest(mysqlclient(), ["tests"], {"TESTDB": config}, out, label, only)


def sqlalchemy_at(dialect):
    def at(port, out, label, only):
        user, password = account()
        url = f"mysql+{dialect}://{user}:{password}@127.0.0.1:{port}/test?charset=utf8mb4"
        tests = ["test/dialect/mysql", "test/dialect/test_suite.py"]
        return pytest(sqlalchemy(), ["-p", "no:logging", "--maxfail=10000", f"--dburi={url}", *tests], {}, out, label, only)

    return at


# Files of Connector/Python's tests that are left out: they want its examples or Django, wait for timeouts, or keep the client busy
# for minutes.
CONNECTOR_LEFT_OUT = {"test_examples", "test_django", "test_qa_timeout", "test_qa_aio_timeout", "test_qa_vector_type"}
CONNECTOR_FILE_LIMIT_S = 240


def connector_at(port, out, label, only):
    """MySQL Connector/Python brings a runner of its own on `unittest`, here with one process for each file of tests;
    `unittest_report.py` has it tell each test's end. `only`: names of files."""
    folder = connector()
    user, password = account()
    files = [os.path.relpath(path, folder)[:-3] for path in sorted(glob.glob(os.path.join(folder, "tests/**/test_*.py"), recursive=True))]
    files = [file for file in files if os.path.basename(file) not in CONNECTOR_LEFT_OUT and "/ai/" not in file and "/otel/" not in file]
    found = {}
    for file in files:
        name = os.path.basename(file)
        if only and name not in only:
            continue
        report = os.path.join(out, f"{label}-{name}.json")
        if os.path.exists(report):
            os.remove(report)
        command = [sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "unittest_report.py"), report, "--use-external-server"]
        command += ["--host=127.0.0.1", f"--port={port}", f"--user={user}", f"--password={password}", "--skip-install", f"--test={file.replace('/', '.')}"]
        ended(command, os.path.join(out, f"{label}-{name}.log"), folder, {"PYTHONPATH": folder}, CONNECTOR_FILE_LIMIT_S)
        found.update(connector_report(report))
    return found


def connector_report(report):
    """How tests ended, by what was told last but for a success that follows a failure."""
    found = {}
    if os.path.exists(report):
        with open(report, encoding="utf-8") as lines:
            for test, kind in map(json.loads, lines):
                if found.get(test, "begun") == "begun":
                    found[test] = kind
    # some get another name while they run, which says with what they run
    renamed = {test.split(" (")[0] for test in found if " (" in test}
    return {test: "failed" if kind == "begun" else kind for test, kind in found.items() if kind != "begun" or test not in renamed}


DJANGO_APPS = ["backends", "transactions", "introspection", "inspectdb", "schema", "basic", "bulk_create", "queries", "aggregation", "db_functions", "datatypes", "model_fields", "select_for_update", "get_or_create"]


def django_at(port, out, label, only):
    folder = django()
    user, password = account()
    with open(os.path.join(folder, "tests/sluice_settings.py"), "w", encoding="utf-8") as text:
        base = {"ENGINE": "django.db.backends.mysql", "HOST": "127.0.0.1", "PORT": port, "USER": user, "PASSWORD": password}
        databases = {"default": base | {"NAME": "django", "TEST": {"CHARSET": "utf8mb4"}}, "other": base | {"NAME": "django2", "TEST": {"CHARSET": "utf8mb4"}}}
        text.write(f"DATABASES = {databases!r}\nSECRET_KEY = 'x'\nUSE_TZ = False\nPASSWORD_HASHERS = ['django.contrib.auth.hashers.MD5PasswordHasher']\nDEFAULT_AUTO_FIELD = 'django.db.models.AutoField'\n")
    command = [sys.executable, "runtests.py", "--settings=sluice_settings", "--parallel=1", "--noinput", "-v2", *(only or DJANGO_APPS)]
    log = os.path.join(out, label + ".log")
    ended(command, log, os.path.join(folder, "tests"), {"PYTHONPATH": folder}, LIMIT_S)
    return unittest_lines(log)



def unittest_lines(log):
    """How tests ended, from the lines of `unittest -v`: a name, perhaps a line of documentation, and the end."""
    found, name = {}, None
    with open(log, encoding="utf-8", errors="replace") as text:
        for line in text:
            head = re.match(r"^(\w+) \(([\w.]+)\)", line)
            if head and not line.startswith(("FAIL", "ERROR")):
                name = f"{head[2]}.{head[1]}" if not head[2].endswith(head[1]) else head[2]
            end = re.search(r"\.\.\. (ok|FAIL|ERROR|skipped|expected failure|unexpected success)", line)
            if end and name:
                found[name] = {"ok": "passed", "expected failure": "passed", "skipped": "skipped"}.get(end[1], "failed")
                name = None
    return found


def mysqlclient():
    return sources.pypi("mysqlclient", "2.3.2")


def sqlalchemy():
    return sources.pypi("SQLAlchemy", "2.1.9")


def connector():
    return sources.pypi("mysql-connector-python", "26.10.0")


def django():
    return sources.pypi("Django", "5.2.19")


OLD, NEW = pymysql_source("0.10.1", False), pymysql_source("1.2.0", True)
SUITES = [
    Suite("pymysql", "PyMySQL 0.10.1", OLD, pymysql(OLD)),
    Suite("pymysql-1.2", "PyMySQL 1.2.0", NEW, pymysql(NEW)),
    Suite("mysqlclient", "mysqlclient 2.3.2", mysqlclient, mysqlclient_at),
    Suite("mysql-connector", "Connector/Python 26.10.0", connector, connector_at),
    Suite("sqlalchemy-pymysql", "SQLAlchemy 2.1.9", sqlalchemy, sqlalchemy_at("pymysql")),
    Suite("sqlalchemy-mysqlclient", "SQLAlchemy 2.1.9", sqlalchemy, sqlalchemy_at("mysqldb")),
    Suite("django", "Django 5.2.19", django, django_at),
]
