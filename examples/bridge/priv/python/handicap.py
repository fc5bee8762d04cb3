"""What is wrong with a worker on purpose: nothing, unless its command line says so.

    --slow-ms N   sleeps so long before each call, as a process on a busy machine would
    --failing     raises Failing instead of each call, at once
"""

import argparse
import time


class Failing(RuntimeError):
    """This worker was started with --failing."""


class Handicap:
    def __init__(self, slow_ms=0, failing=False):
        self._slow_s = slow_ms / 1000
        self._failing = failing

    @classmethod
    def of_command_line(cls):
        parser = argparse.ArgumentParser(allow_abbrev=False)
        parser.add_argument("--slow-ms", type=int, default=0)
        parser.add_argument("--failing", action="store_true")
        return cls(**vars(parser.parse_args()))

    def before_call(self):
        if self._failing:
            raise Failing("this worker fails every call: it was started with --failing")
        if self._slow_s:
            time.sleep(self._slow_s)
