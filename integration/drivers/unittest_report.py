"""`unittest_report.py REPORT ARGS...`: runs `unittests.py ARGS` of MySQL Connector/Python and writes how each test ended.

Its runner tells that only as dots; here it is told by the results themselves.
"""

import atexit
import json
import os
import runpy
import sys
import unittest

found = {}


def note(method, kind):
    original = getattr(unittest.TestResult, method)

    def told(self, test, *rest):
        found.setdefault(test.id(), kind)
        return original(self, test, *rest)

    setattr(unittest.TestResult, method, told)


# what failed is not told apart from what also passed: the first word counts, and a success comes last
for method, kind in (("addError", "failed"), ("addFailure", "failed"), ("addSkip", "skipped"), ("addExpectedFailure", "passed"), ("addUnexpectedSuccess", "failed"), ("addSuccess", "passed")):
    note(method, kind)


def write():
    with open(report, "w", encoding="utf-8") as text:
        json.dump(found, text, indent=1)


report = sys.argv.pop(1)
atexit.register(write)
sys.argv[0] = os.path.join(os.getcwd(), "unittests.py")
sys.path.insert(0, os.getcwd())
runpy.run_path(sys.argv[0], run_name="__main__")
