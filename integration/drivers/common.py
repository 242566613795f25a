"""What the suites share: how a test ended, and how the servers are reached."""

import contextlib
import os
import subprocess
from dataclasses import dataclass

SCHEMAS = ("test", "test1", "test2", "test_schema", "test_schema_2", "sqlx", "gotest", "myconnpy")


@dataclass
class Outcome:
    """How one test ended: `passed`, `failed` or `skipped`; `log` is a file that tells more."""

    kind: str
    log: str = ""
    seconds: float = 0.0


def account():
    """Name and password of an account that may do everything."""
    return os.environ["DB_USER"], os.environ["DB_PASSWORD"]


def direct_connection(**options):
    """PyMySQL at the master, with autocommit, for a `with`."""
    import pymysql

    user, password = account()
    options = {"host": "127.0.0.1", "port": int(os.environ["DIRECT_PORT"]), "user": user, "password": password, "autocommit": True} | options
    return contextlib.closing(pymysql.connect(**options))


def fresh_schemas():
    """Empty schemas of the names that suites expect."""
    with direct_connection() as conn:
        cursor = conn.cursor()
        for schema in SCHEMAS:
            cursor.execute(f"DROP DATABASE IF EXISTS {schema}")
            cursor.execute(f"CREATE DATABASE {schema} CHARACTER SET utf8mb4")


def ended(command, log, folder, env, limit_s):
    """Runs a command with its output in a file. Its exit code, or `None` when it had to be stopped; what it started ends with it."""
    with open(log, "wb") as to:
        process = subprocess.Popen(command, cwd=folder, env=os.environ | env, stdout=to, stderr=to, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
            to.write(f"\nstopped after {limit_s} s\n".encode())
            return None
