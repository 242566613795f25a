"""`unittest_report.py REPORT ARGS...`: runs `unittests.py ARGS` of MySQL Connector/Python and writes how each test ended.

Its runner tells that only as dots; here it is told by the results themselves, a line of JSON for each as it comes, so that what
ran before a test that never ends is known. A test that began and did not end is told as begun only.
"""

import json
import os
import runpy
import sys
import unittest

report = open(sys.argv.pop(1), "a", encoding="utf-8", buffering=1)
# A test may give itself another name while it runs, and not each time the same: it goes by the one it began with.
names = {}


def note(method, kind):
    original = getattr(unittest.TestResult, method)

    def told(self, test, *rest):
        if method == "startTest":
            names[id(test)] = test.id()
        report.write(json.dumps([names.get(id(test), test.id()), kind]) + "\n")
        return original(self, test, *rest)

    setattr(unittest.TestResult, method, told)


# Its own result class does not pass a skip on: a test that ends without a word was one.
for method, kind in (("startTest", "begun"), ("addError", "failed"), ("addFailure", "failed"), ("addSkip", "skipped"), ("addExpectedFailure", "passed"), ("addUnexpectedSuccess", "failed"), ("addSuccess", "passed"), ("stopTest", "skipped")):
    note(method, kind)
sys.argv[0] = os.path.join(os.getcwd(), "unittests.py")
sys.path.insert(0, os.getcwd())
runpy.run_path(sys.argv[0], run_name="__main__")
