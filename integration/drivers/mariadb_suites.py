"""The servers' own suites: that of MariaDB's C client, and those of both servers."""

import os
import random
import subprocess

from common import account, ended, fresh_schemas
from servertest import Unprepared

HOME = os.environ.get("SLUICE_DRIVERS_DIR", "")
HERE = os.path.dirname(os.path.abspath(__file__))


def client_tests(out, only):
    """The C client's `mariadb-client-test`, one process for each test."""
    root = os.path.join(HOME, "mariadb-test")
    program = os.path.join(root, "usr/bin/mariadb-client-test")
    env = {"LD_LIBRARY_PATH": os.path.join(root, "usr/lib/x86_64-linux-gnu")}
    listed = subprocess.run([program, "--no-defaults", "--show-tests"], env=os.environ | env, capture_output=True, text=True, check=True)
    tests = only or [word.rstrip(";") for word in listed.stdout.split() if word.startswith("test_")]
    user, password = account()
    fresh_schemas()

    def one(test, label, port):
        command = [program, "--no-defaults", "--host=127.0.0.1", f"--port={port}", f"--user={user}", f"--password={password}"]
        command += [f"--vardir={out}", f"--basedir={root}/usr/share/mysql/mysql-test", test]
        os.makedirs(os.path.join(out, label), exist_ok=True)
        return "passed" if ended(command, os.path.join(out, label, test + ".log"), out, env, 60) == 0 else "failed"

    found = {}
    for test in tests:
        direct = one(test, "direct", os.environ["DIRECT_PORT"])
        found[test] = (direct, one(test, "sluice", os.environ["PROXY_PORT"]) if direct == "passed" else "not run")
    return "MariaDB 10.11", found


def server_tests(kind, out, options):
    """A server's own suite with `mysqltest`: against its results, or with `compare` the whole output of one run against the other's."""
    suite = kind(os.path.join(HOME, kind.name), out, options.protocol)
    tests = options.test or suite.tests(options.suites.split(","))
    if options.subset and not options.test:
        with open(os.path.join(HERE, "subset.txt"), encoding="utf-8") as text:
            wanted = set(text.read().split())
        tests = [test for test in tests if test in wanted]
    if options.sample:
        tests = random.Random(options.seed).sample(tests, min(options.sample, len(tests)))
    found = {}
    for test in tests:
        try:
            if options.compare:
                direct, sluice = suite.compare(test)
            else:
                direct = suite.run(test, os.environ["DIRECT_PORT"], "direct").kind
                sluice = suite.run(test, os.environ["PROXY_PORT"], "sluice").kind if direct == "passed" else "not run"
        except Unprepared as error:  # what came before it counts
            print(f"{kind.name}: {test}: the servers are past use: {error}", flush=True)
            break
        found[test] = (direct, sluice)
        if sluice not in ("passed", "not run"):
            print(f"{kind.name}: {test}: {direct} at the master, {sluice} through Sluice", flush=True)
    return kind.version, found
