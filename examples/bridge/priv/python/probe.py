"""Shows what a worker does; for tests and for a look around in iex."""

import os

import host


class Probe:
    def pid(self):
        return os.getpid()

    def echo(self, value):
        return value

    def ask(self, tool, *args):
        return host.tool(tool, *args)

    def spin(self):
        while True:
            pass

    def nan(self):
        return float("nan")

    def shout(self, text):
        """print() must not end up among the frames."""
        print(text)
        return text
