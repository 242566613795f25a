"""MariaDB's own server test suite: each .test file with `mysqltest`, at the master and through Sluice, against its .result.

The files and the program come from the packages mariadb-test and mariadb-test-data, unpacked and not installed. What the suite's
own driver does for a test with a server of its own is done here as far as a server that is already there allows: the schemas
`test` and `mtr`, the environment, and afterwards everything put back (schemas, accounts, global variables). Tests that
want options of their own at the server's start are left out, and what fails at the master says nothing about Sluice.
"""

import os
import re
import shutil
import subprocess
import time

from common import Outcome, direct_connection

# Options of all servers with which the .result files were written, as far as replication bears them.
SERVER_OPTIONS = [
    "--skip-name-resolve=OFF",
    "--character-set-server=latin1",
    "--default-storage-engine=MyISAM",
    "--use-stat-tables=preferably",
    "--histogram-type=json_hb",
    "--sort-buffer-size=256K",
    "--max-heap-table-size=1M",
    "--innodb-buffer-pool-size=8M",
    "--max-connections=151",
    "--max-allowed-packet=16M",
    "--slave-skip-errors=all",
    "--slave-exec-mode=IDEMPOTENT",
    "--disable-getopt-prefix-matching",
    "--feedback=OFF",
]
SYSTEM_SCHEMAS = {"mysql", "information_schema", "performance_schema", "sys", "sluice", "shop", "sbtest", "t_harness"}
LIMIT_S = 60  # for one test
PASSED, SKIPPED = 0, 62
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")

# They need a server of their own: they restart it, wait for its crash, count all its connections, or fill its disk.
OWN_SERVER = re.compile(
    r"restart_mysqld|shutdown_mysqld|start_mysqld|kill_mysqld|wait_until_disconnected|--exec.*mysqld|not_embedded_restart|big_test|"
    r"have_debug|have_valgrind|have_innodb_..?k\.inc|rpl_init|master-slave|galera|change master|start slave|reset master|"
    r"purge (binary|master) logs|set global read_only|set global gtid|flush tables with read lock",
    re.I,
)


class ServerTests:
    name = "mariadb-test"

    def __init__(self, root, out):
        """`root` holds the unpacked packages, `out` gets the results."""
        self.home = os.path.join(root, "usr/share/mysql/mysql-test")
        self.program = os.path.join(root, "usr/bin/mariadb-test")
        self.libraries = os.path.join(root, "usr/lib/x86_64-linux-gnu")
        self.out = out
        self.data = os.path.join(os.path.dirname(os.environ["DIRECT_SOCKET"]), "data")
        self.var = os.path.dirname(os.path.dirname(os.environ["DIRECT_SOCKET"]))  # tests write beside the server's files
        for name in ("tmp", "log", "run"):
            os.makedirs(os.path.join(self.var, name), exist_ok=True)
        link = os.path.join(self.var, "std_data")
        if not os.path.lexists(link):
            os.symlink(os.path.join(self.home, "std_data"), link)
        self.baseline = None

    def tests(self, suites):
        """Names as `main.type_int`, of the tests that can run at a server that is already there."""
        found = []
        for suite in suites:
            folder = self.folder(suite)
            for file in sorted(os.listdir(folder)):
                if not file.endswith(".test"):
                    continue
                stem = os.path.join(folder, file[:-5])
                own = [".opt", "-master.opt", ".cnf", "-slave.opt", ".sh", "-master.sh", ".combinations", ".rdiff", ".inc"]
                result = self.result(suite, file[:-5])
                if not os.path.exists(result) or any(os.path.exists(stem + end) for end in own):
                    continue
                with open(stem + ".test", encoding="latin-1") as text:
                    if OWN_SERVER.search(text.read()):
                        continue
                found.append(f"{suite}.{file[:-5]}")
        return found

    def folder(self, suite):
        if suite == "main":
            return os.path.join(self.home, "main")
        base = os.path.join(self.home, "suite", suite)
        return os.path.join(base, "t") if os.path.isdir(os.path.join(base, "t")) else base

    def result(self, suite, test):
        folder = self.folder(suite)
        if folder.endswith("/t"):
            folder = folder[:-2] + "/r"
        return os.path.join(folder, test + ".result")

    def run(self, name, port, label):
        """One test at `port`; leaves its output in `out/LABEL/NAME.log`."""
        suite, test = name.split(".", 1)
        logs = os.path.join(self.out, label)
        os.makedirs(logs, exist_ok=True)
        log = os.path.join(logs, name + ".log")
        self.prepare()
        arguments = [
            self.program, "--no-defaults", "--protocol=tcp", "--host=127.0.0.1", f"--port={port}", "--user=root", "--password=",
            "--database=test", f"--basedir={self.home}/", f"--logdir={logs}", f"--tmpdir={self.var}/tmp",
            "--character-sets-dir=/usr/share/mysql/charsets", "--silent", "--skip-ssl", "--max-connections=64",
            f"--suite-dir={os.path.dirname(self.folder(suite)) if self.folder(suite).endswith('/t') else self.folder(suite)}",
            f"--test-file={self.folder(suite)}/{test}.test", f"--result-file={self.result(suite, test)}", "--tail-lines=20",
        ]
        begun = time.monotonic()
        with open(log, "wb") as to:
            # killed as a group: tests start programs of their own
            process = subprocess.Popen(arguments, cwd=self.home, env=self.environment(port), stdout=to, stderr=to, stdin=subprocess.DEVNULL, start_new_session=True)
            try:
                status = process.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()
                status = -9
                to.write(f"\nstopped after {LIMIT_S} s\n".encode())
        reject = self.result(suite, test).replace(".result", ".reject")
        if os.path.exists(reject):
            shutil.move(reject, os.path.join(logs, name + ".reject"))
        kind = {PASSED: "passed", SKIPPED: "skipped"}.get(status, "failed")
        return Outcome(kind, log, time.monotonic() - begun)

    def environment(self, port):
        env = {key: value for key, value in os.environ.items() if not key.startswith(("DB_", "MYSQL"))}
        client = f"--no-defaults --protocol=tcp --host=127.0.0.1 --port={port} --user=root"
        env.update(
            LD_LIBRARY_PATH=self.libraries, MYSQL_TEST_DIR=self.home, MYSQLTEST_VARDIR=self.var, MYSQL_TMP_DIR=self.var + "/tmp",
            MASTER_MYPORT=str(port), MASTER_MYSOCK=os.environ["DIRECT_SOCKET"], MYSQL_TEST_LOGIN_FILE="/dev/null", LC_ALL="C",
            LC_COLLATE="C", TZ="GMT-3", CHARSETSDIR="/usr/share/mysql/charsets", MYSQL_SHAREDIR="/usr/share/mysql",
            DEFAULT_MASTER_PORT=str(port), SERVER_MYPORT_1=str(port), MTR_VERSION="1", USE_RUNNING_SERVER="1",
            MYSQL=f"/usr/bin/mariadb {client}", MYSQL_DUMP=f"/usr/bin/mariadb-dump {client}", MYSQL_CHECK=f"/usr/bin/mariadb-check {client}",
            MYSQL_SHOW=f"/usr/bin/mariadb-show {client}", MYSQL_IMPORT=f"/usr/bin/mariadb-import {client}", MYSQLADMIN=f"/usr/bin/mariadb-admin {client}",
            MYSQL_TEST=f"{self.program} {client}", EXE_MYSQL="/usr/bin/mariadb",
        )
        return env

    # -- what lies on the server before each test ----------------------------------------------------------------------------

    def prepare(self):
        """Puts the master into the state a test begins with; everything a test may have left behind is taken away."""
        with direct_connection(user="root", password="") as root:
            ask = root.cursor()

            def rows(sql):
                ask.execute(sql)
                return ask.fetchall()

            def quietly(sql):
                try:
                    ask.execute(sql)
                except Exception:  # what cannot be put back shows as a test that fails at the master
                    pass

            variables = dict(rows("SHOW GLOBAL VARIABLES"))
            if self.baseline is None:
                self.baseline = variables
                self.users = {row for row in rows("SELECT User, Host FROM mysql.user")}
            for name, value in self.baseline.items():
                if variables.get(name) != value and not name.startswith(("gtid_", "last_", "timestamp", "pseudo_", "insert_id", "innodb_buffer_pool_dump", "innodb_buffer_pool_load")):
                    text = str(value)
                    value = text if NUMBER.fullmatch(text) else repr(text)
                    quietly(f"SET GLOBAL {name} = {value}")
            ask.execute("SET foreign_key_checks = 0, lock_wait_timeout = 10")
            for (schema,) in rows("SHOW DATABASES"):
                if schema not in SYSTEM_SCHEMAS:
                    self.remove_files(schema)
                    quietly("DROP DATABASE `%s`" % schema.replace("`", "``"))
            for user, host in set(rows("SELECT User, Host FROM mysql.user")) - self.users:
                quietly(f"DROP USER IF EXISTS '{user}'@'{host}'")
                quietly(f"DROP ROLE IF EXISTS '{user}'")
            for sql in PREPARE:
                ask.execute(sql)

    def remove_files(self, schema):
        """What SELECT INTO OUTFILE left in a schema's directory would keep it from being dropped."""
        folder = os.path.join(self.data, schema)
        for file in os.listdir(folder) if os.path.isdir(folder) else []:
            path = os.path.join(folder, file)
            if os.path.isdir(path):
                shutil.rmtree(path)
            elif not file.endswith(TABLE_FILES):
                os.remove(path)


TABLE_FILES = (".frm", ".ibd", ".MYD", ".MYI", ".MAD", ".MAI", ".CSV", ".CSM", ".ARZ", ".ARM", ".TRG", ".TRN", ".opt", ".par", ".MRG")
PREPARE = [
    "CREATE DATABASE IF NOT EXISTS test CHARACTER SET latin1 COLLATE latin1_swedish_ci",
    "CREATE DATABASE IF NOT EXISTS mtr CHARACTER SET latin1",
    "CREATE OR REPLACE PROCEDURE mtr.add_suppression(pattern VARCHAR(255)) BEGIN END",
    "FLUSH STATUS",
]
