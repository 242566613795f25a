"""The servers' own test suites: each .test file with `mysqltest`, at the master and through Sluice, against its .result.

The files and the programs come from the packages mariadb-test and mariadb-test-data, and from MySQL's mysql-testsuite, unpacked and not installed. What a suite's
own driver does for a test with a server of its own is done here as far as a server that is already there allows: the schemas
`test` and `mtr`, the environment, and afterwards everything put back (schemas, accounts, global variables). Tests that
want options of their own at the server's start are left out, and what fails at the master says nothing about Sluice.

`compare` asks for more: each file goes on after an error (`mysqltest --continue-on-error`), and the whole of what it prints must be the
same, whether or not it is what the .result file says. Where it differs, the master is asked again, to tell what differs by itself.
"""

import difflib
import os
import re
import shutil
import time

from common import Outcome, direct_connection, ended

# How `mysqltest` can be told to execute statements.
MYSQLTEST_PROTOCOLS = ("ps", "cursor", "view", "sp")
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
MYSQL_OPTIONS = [
    "--sort-buffer-size=256K",
    "--max-heap-table-size=1M",
    "--max-connections=151",
    "--max-allowed-packet=16M",
    "--secure-file-priv=",
    "--local-infile=ON",
    "--replica-skip-errors=all",
    "--replica-exec-mode=IDEMPOTENT",
    "--log-bin-trust-function-creators=ON",
]
SYSTEM_SCHEMAS = {"mysql", "information_schema", "performance_schema", "sys", "sluice", "shop", "sbtest", "t_harness"}
LIMIT_S = 60  # for one test
COMPARED_LIMIT_S = 30  # for one test whose whole output is compared
PASSED, SKIPPED = 0, 62
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")

# They need a server of their own: they restart it, wait for its crash, count all its connections, or fill its disk.
OWN_SERVER = re.compile(
    r"delete from mysql\.(user|global_priv)|restart_mysqld|force-restart|clone_|keyring|group_replication|install plugin|shutdown_mysqld|start_mysqld|kill_mysqld|wait_until_disconnected|--exec.*mysqld|not_embedded_restart|big_test|"
    r"have_debug|have_valgrind|have_innodb_..?k\.inc|rpl_init|master-slave|galera|change master|start slave|reset master|"
    r"change replication|start replica|stop replica|reset binary|purge (binary|master) logs|set (persist|@@persist)|set global read_only|set global gtid|flush tables with read lock",
    re.I,
)


class Unprepared(Exception):
    """A test has left the servers so that no other can run there."""


class ServerTests:
    """MariaDB's."""

    name = "mariadb-test"
    version = "MariaDB 10.11"
    server_options = SERVER_OPTIONS
    main = "main"
    files, binary = "usr/share/mysql/mysql-test", "usr/bin/mariadb-test"
    system_users = ()

    def __init__(self, root, out, protocol=None):
        """`root` holds the unpacked packages, `out` gets the results."""
        self.home = os.path.join(root, self.files)
        self.program = [os.path.join(root, self.binary)]
        self.libraries = os.path.join(root, "usr/lib/x86_64-linux-gnu")
        self.root = {"user": "root", "password": ""}
        self.protocol = [f"--{protocol}-protocol"] if protocol else []
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
            return os.path.join(self.home, self.main)
        base = os.path.join(self.home, "suite", suite)
        base = base if os.path.isdir(base) else os.path.join(self.home, suite)  # plugin/type_inet/type_inet
        return os.path.join(base, "t") if os.path.isdir(os.path.join(base, "t")) else base

    def result(self, suite, test):
        folder = self.folder(suite)
        if folder.endswith("/t"):
            folder = folder[:-2] + "/r"
        return os.path.join(folder, test + ".result")

    def run(self, name, port, label):
        """One test at `port`, against its .result file; leaves its output in `out/LABEL/NAME.log`."""
        result = self.result(*name.rsplit(".", 1))
        begun = time.monotonic()
        status, log = self.mysqltest(name, port, label, LIMIT_S, [f"--result-file={result}", "--tail-lines=20"])
        reject = result.replace(".result", ".reject")
        if os.path.exists(reject):
            shutil.move(reject, os.path.join(self.out, label, name + ".reject"))
        kind = {PASSED: "passed", SKIPPED: "skipped"}.get(status, "failed")
        return Outcome(kind, log, time.monotonic() - begun)

    def compare(self, name):
        """One test by its whole output: (at the master, through Sluice). `unsteady` is what two runs at the master do not agree on."""
        direct = self.output(name, os.environ["DIRECT_PORT"], "direct")
        if direct is None:
            return "not ended", "not run"
        if direct == []:
            return "skipped", "not run"
        sluice = self.output(name, os.environ["PROXY_PORT"], "sluice")
        if sluice == direct:
            return "passed", "passed"
        if self.output(name, os.environ["DIRECT_PORT"], "again") != direct:
            return "unsteady", "differs"
        path = os.path.join(self.out, "differences", name + ".diff")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="latin-1") as to:
            to.writelines(line + "\n" for line in difflib.unified_diff(direct, sluice or [], "at the master", "through Sluice", lineterm="", n=8))
        return "passed", "not ended" if sluice is None else "differs"

    def own_arguments(self, folder):
        suite_dir = os.path.dirname(folder) if folder.endswith("/t") else folder
        return ["--character-sets-dir=/usr/share/mysql/charsets", "--skip-ssl", f"--suite-dir={suite_dir}"]

    def goes_on(self):
        """What makes it go on after an error."""
        return ["--continue-on-error"]

    def output(self, name, port, label):
        """All lines that a test prints at `port`, with the port taken out; empty when it was skipped, `None` when it did not end."""
        status, log = self.mysqltest(name, port, label, COMPARED_LIMIT_S, self.goes_on())
        if status in (SKIPPED, None):
            return [] if status == SKIPPED else None
        with open(log, encoding="latin-1") as text:
            return re.sub(rf"\b{port}\b", "PORT", text.read()).split("\n")

    def mysqltest(self, name, port, label, limit_s, more):
        """`mysqltest` for one test: its exit code, `None` when it had to be stopped, and the file with its output."""
        suite, test = name.rsplit(".", 1)
        folder = self.folder(suite)
        log = os.path.join(self.out, label, name + ".log")
        os.makedirs(os.path.dirname(log), exist_ok=True)
        try:
            self.prepare()
        except Exception as error:
            raise Unprepared(error) from error
        arguments = [
            *self.program, "--no-defaults", "--protocol=tcp", "--host=127.0.0.1", f"--port={port}", "--user=root", "--password=",
            "--database=test", f"--basedir={self.home}/", f"--logdir={os.path.dirname(log)}", f"--tmpdir={self.var}/tmp",
            "--silent", "--max-connections=64", f"--test-file={folder}/{test}.test", *self.protocol, *self.own_arguments(folder),
        ]
        return ended(arguments + more, log, self.home, self.environment(port), limit_s), log

    def environment(self, port):
        env = {}
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
        with direct_connection(**self.root) as root:
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
            schemas = {schema for (schema,) in rows("SHOW DATABASES")}
            for schema in ("test", "mtr"):
                folder = os.path.join(self.data, schema)
                if schema not in schemas and os.path.isdir(folder):  # the server keeps a directory with files that are not its own
                    shutil.rmtree(folder)
            for sql in self.prepares:
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
ServerTests.prepares = [
    "DELETE FROM mysql.roles_mapping",
    "FLUSH PRIVILEGES",  # tests delete from its tables
    "CREATE DATABASE IF NOT EXISTS test CHARACTER SET latin1 COLLATE latin1_swedish_ci",
    "CREATE DATABASE IF NOT EXISTS mtr CHARACTER SET latin1",
    "CREATE OR REPLACE PROCEDURE mtr.add_suppression(pattern VARCHAR(255)) BEGIN END",
    "FLUSH STATUS",
]


class MySqlTests(ServerTests):
    """MySQL's. Its programs run as those of the server do, with the loader and the libraries of its own tree."""

    name = "mysql-test"
    version = "MySQL 9.7"
    server_options = MYSQL_OPTIONS
    files, main = "root/usr/lib/mysql-test", "t"
    prepares = [
        "CREATE USER IF NOT EXISTS root@127.0.0.1",
        "ALTER USER root@127.0.0.1 IDENTIFIED WITH caching_sha2_password BY '' ACCOUNT UNLOCK",
        "GRANT ALL ON *.* TO root@127.0.0.1 WITH GRANT OPTION",
        "CREATE DATABASE IF NOT EXISTS test",
        "CREATE DATABASE IF NOT EXISTS mtr",
        "DROP PROCEDURE IF EXISTS mtr.add_suppression",
        "CREATE PROCEDURE mtr.add_suppression(pattern VARCHAR(255)) BEGIN END",
        "FLUSH PRIVILEGES",
        "FLUSH STATUS",
    ]

    def __init__(self, root, out, protocol=None):
        super().__init__(root, out, protocol)
        self.bin = next(folder for folder in mysql_folders() if os.path.exists(os.path.join(folder, "mysql")))
        with open(os.path.join(self.bin, "mysql"), encoding="utf-8") as wrapper:
            words = wrapper.read().split()
        # exec LOADER --argv0 PROGRAM --library-path LIBRARIES PROGRAM "$@"
        loader, libraries = words[words.index("exec") + 1], words[words.index("--library-path") + 1]
        self.program = [loader, "--library-path", libraries, os.path.join(self.home, "bin/mysqltest")]
        self.libraries = ""
        self.begin = os.path.join(self.out, "goes_on.inc")
        os.makedirs(self.out, exist_ok=True)
        with open(self.begin, "w", encoding="utf-8") as text:
            text.write("--disable_abort_on_error\n")
        # Its own root may log in by the socket only; the tests have another, which they may spoil.
        self.root["unix_socket"] = os.environ["DIRECT_SOCKET"]

    def own_arguments(self, folder):
        return ["--ssl-mode=DISABLED", "--get-server-public-key"]

    def goes_on(self):
        return [f"--include={self.begin}"]

    def environment(self, port):
        env = super().environment(port)
        client = f"--no-defaults --protocol=tcp --host=127.0.0.1 --port={port} --user=root"
        env.update(
            MYSQL=f"{self.bin}/mysql {client}", MYSQL_DUMP=f"{self.bin}/mysqldump {client}", MYSQLADMIN=f"{self.bin}/mysqladmin {client}",
            EXE_MYSQL=f"{self.bin}/mysql", MYSQL_TEST=" ".join([*self.program, client]), CHARSETSDIR="", MYSQL_SHAREDIR="",
        )
        env.pop("LD_LIBRARY_PATH")
        return env


def mysql_folders():
    """Where `tools/setup mysql` puts the programs."""
    named = os.environ.get("SLUICE_MYSQL_DIR")
    folders = [named] if named else ["/opt/mysql97", os.path.expanduser("~/.cache/sluice/mysql97")]
    return [os.path.join(folder, "bin") for folder in folders]


SUITES = {kind.name: kind for kind in (ServerTests, MySqlTests)}
