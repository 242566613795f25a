"""What the suites share: how a test ended, and how the servers are reached."""

import contextlib
import os
from dataclasses import dataclass


@dataclass
class Outcome:
    """How one test ended: `passed`, `failed` or `skipped`; `log` is a file that tells more."""

    kind: str
    log: str = ""
    seconds: float = 0.0


def direct_connection(**options):
    """PyMySQL at the master, with autocommit, for a `with`."""
    import pymysql

    options = {"host": "127.0.0.1", "port": int(os.environ["DIRECT_PORT"]), "user": os.environ["DB_USER"], "password": os.environ["DB_PASSWORD"], "autocommit": True} | options
    return contextlib.closing(pymysql.connect(**options))
