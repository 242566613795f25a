"""The suites: for each its version and, for every test, how it ended at the master and how through Sluice."""

import os

import foreign
import mariadb_suites
import python_suites
import servertest
from common import fresh_schemas
from python_suites import Suite

SUITES: dict[str, Suite] = {suite.name: suite for suite in python_suites.SUITES + foreign.SUITES}


def names(flavour, asked=False):
    """The suites of a flavour, in the order they run; `asked`: with the one that runs only when it is asked for."""
    own = ["mariadb-client-test", "mariadb-test"] if flavour == "mariadb" else ["mysql-test"] if asked else []
    return [suite.name for suite in SUITES.values() if flavour in suite.flavours] + own


def run(name, out, options):
    """Version and `{test: (at the master, through Sluice)}` of a suite; `options` are those of the command line."""
    if name in servertest.SUITES:
        return mariadb_suites.server_tests(servertest.SUITES[name], out, options)
    if name == "mariadb-client-test":
        return mariadb_suites.client_tests(out, options.test)
    suite = SUITES[name]
    suite.prepare()
    found = []
    for label, port in (("direct", os.environ["DIRECT_PORT"]), ("sluice", os.environ["PROXY_PORT"])):
        fresh_schemas()
        found.append(suite.at(port, out, label, options.test))
    direct, sluice = found
    return suite.version, {test: (kind, sluice.get(test, "missing")) for test, kind in direct.items()}
