"""Runs suites of real drivers and servers twice, at the master and through Sluice, and prints what passed where.

Started by `run`. For each flavour it starts itself again below `with-cluster`, which brings up four servers and Sluice with few
connections a server. The exit code is 1 when a test that passes at the master fails through Sluice, unless `explained.txt` names it.
"""

import argparse
import json
import os
import subprocess
import sys

import suites
from servertest import MYSQLTEST_PROTOCOLS, SUITES as SERVER_SUITES
from sources import Unavailable

HERE = os.path.dirname(os.path.abspath(__file__))
FLAVOURS = ("mariadb", "mysql")


def explained():
    """`FLAVOUR SUITE TEST` of each line of explained.txt that is not a comment; `*` stands for both flavours."""
    found = set()
    with open(os.path.join(HERE, "explained.txt"), encoding="utf-8") as lines:
        for line in lines:
            words = line.split("#")[0].split()
            if words:
                flavours = FLAVOURS if words[0] == "*" else (words[0],)
                found.update((flavour, *words[1:3]) for flavour in flavours)
    return found


def outer(options):
    """One cluster for each flavour and suite; adds up what they found."""
    home = os.environ["SLUICE_DRIVERS_DIR"]
    rows, known, unrun = [], explained(), []
    for flavour in options.flavour or FLAVOURS:
        for suite in options.suite or suites.names(flavour):
            if suite not in suites.names(flavour, asked=bool(options.suite)):
                continue
            out = os.path.join(home, "out", flavour, suite)
            os.makedirs(out, exist_ok=True)
            results = os.path.join(out, "results.json")
            if os.path.exists(results):
                os.remove(results)
            command = [options.with_cluster, "--flavour", flavour, "--every-server", f"max_connections={options.connections}"]
            command += ["--set", f'routing.consistency="{options.consistency}"']
            server = SERVER_SUITES.get("mariadb-test" if suite == "mariadb-client-test" else suite)
            if server:
                command += [word for option in server.server_options for word in ("--server", option)]
            command += [sys.executable, os.path.abspath(__file__), "--inner", suite, "--out", out]
            command += ["--suites", options.suites]
            command += ["--subset"] if options.subset else []
            command += ["--compare"] if options.compare else []
            command += ["--sample", str(options.sample), "--seed", str(options.seed)] if options.sample else []
            command += ["--protocol", options.protocol] if options.protocol else []
            command += [word for test in options.test for word in ("--test", test)]
            subprocess.run(command, check=False)
            if not os.path.exists(results):
                print(f"{flavour} {suite}: did not run to its end", flush=True)
                unrun.append(f"{flavour} {suite}")
                continue
            with open(results, encoding="utf-8") as text:
                found = json.load(text)
            passed = [test for test, (direct, _) in found["tests"].items() if direct == "passed"]
            lost = [test for test in passed if found["tests"][test][1] != "passed"]
            rows.append((flavour, suite, found["version"], len(found["tests"]), passed, lost))
    print(f"\n{'':8} {'suite':18} {'version':24} {'tests':>6} {'at the master':>14} {'through Sluice':>15} {'lost':>5}")
    new = 0
    for flavour, suite, version, tests, passed, lost in rows:
        print(f"{flavour:8} {suite:18} {version:24} {tests:6} {len(passed):14} {len(passed) - len(lost):15} {len(lost):5}")
        if not passed:  # then it says nothing
            unrun.append(f"{flavour} {suite}: nothing passes at the master")
        for test in lost:
            is_known = (flavour, suite, test) in known
            new += not is_known
            print(f"{'':8}   {test}{'  (explained)' if is_known else ''}")
    for what in unrun:
        print(f"{'':8} {what}: not run")
    passes = sum(len(row[4]) for row in rows) - new
    print(f"\n{passes} passed, {new + len(unrun)} failed")
    return 1 if new or unrun else 0


def inner(options):
    """One suite, with the cluster around us."""
    try:
        version, tests = suites.run(options.inner, options.out, options)
    except Unavailable as error:
        print(f"{options.inner}: {error}", file=sys.stderr)
        return 1
    with open(os.path.join(options.out, "results.json"), "w", encoding="utf-8") as text:
        json.dump({"version": version, "tests": tests}, text, indent=1)
    return 0


def main():
    parser = argparse.ArgumentParser(description="suites of real drivers and servers, at the master and through Sluice")
    parser.add_argument("--flavour", action="append", choices=FLAVOURS)
    parser.add_argument("--suite", action="append", help="only this one; may be given several times")
    parser.add_argument("--test", action="append", default=[], help="only this one of the suite, in its own words; may be given several times")
    parser.add_argument("--subset", action="store_true", help="of mariadb-test only the sample in subset.txt")
    parser.add_argument("--suites", default="main", help="which of mariadb-test or mysql-test, as main,json,compat/oracle,plugin/type_inet/type_inet (main)")
    parser.add_argument("--sample", type=int, help="so many of the suites of mariadb-test or mysql-test, drawn at random")
    parser.add_argument("--seed", type=int, default=1, help="what the sample is drawn by (1)")
    parser.add_argument("--protocol", choices=MYSQLTEST_PROTOCOLS, help="how mariadb-test or mysql-test executes what it can")
    parser.add_argument("--compare", action="store_true", help="of mariadb-test or mysql-test compare the whole output of both runs, errors or not")
    parser.add_argument("--connections", type=int, default=4, help="max_connections of every server in Sluice (4)")
    parser.add_argument("--consistency", default="session", choices=("none", "session", "global"))
    parser.add_argument("--with-cluster", help=argparse.SUPPRESS)
    parser.add_argument("--inner", help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    options = parser.parse_args()
    return inner(options) if options.inner else outer(options)


if __name__ == "__main__":
    sys.exit(main())
