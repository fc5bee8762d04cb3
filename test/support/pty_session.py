"""Runs a command in a pseudo-terminal and prints, as JSON, what was seen on its screen.

    pty_session.py STEP... -- COMMAND...

Steps are done in order:

    await:TEXT    until the text stands on the screen
    send:TEXT     types the text
    screen:NAME   keeps what is on the screen under this name

A screen is {"lines": [...], "alternate": bool, "cursor": bool}, without trailing spaces and empty
lines. A text that does not come within the patience ends the session, and "failed" says which.
The command is killed at the end, by its own process id.
"""

import codecs
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

COLUMNS, ROWS = 80, 24
PATIENCE_S = 15


class Screen:
    """As much of a terminal as Erlang's shell and a full screen need."""

    SEQUENCE = re.compile(r"\x1b\[([?>]?)([0-9;]*)([@-~])")

    def __init__(self):
        self.grid, self.row, self.column = self.blank(), 0, 0
        self.saved, self.cursor, self.rest = None, True, ""
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @staticmethod
    def blank():
        return [[" "] * COLUMNS for _ in range(ROWS)]

    def feed(self, data):
        text = self.rest + self.decoder.decode(data)
        at = 0
        while at < len(text):
            if text[at] != "\x1b":
                self.put(text[at])
                at += 1
                continue
            sequence = self.SEQUENCE.match(text, at)
            if sequence:
                self.control(*sequence.groups())
                at = sequence.end()
            elif re.fullmatch(r"\x1b(\[[?>]?[0-9;]*)?", text[at:]):
                break
            else:
                at += 2
        self.rest = text[at:]

    def put(self, char):
        if char == "\r":
            self.column = 0
        elif char == "\n":
            self.line_feed()
        elif char == "\b":
            self.column = max(min(self.column, COLUMNS - 1) - 1, 0)
        elif char >= " ":
            # After the last column the cursor waits there for the next character.
            if self.column == COLUMNS:
                self.column = 0
                self.line_feed()
            self.grid[self.row][self.column] = char
            self.column += 1

    def line_feed(self):
        if self.row == ROWS - 1:
            self.grid = self.grid[1:] + [[" "] * COLUMNS]
        else:
            self.row += 1

    def control(self, private, numbers, final):
        first = int(numbers.split(";")[0] or 0)
        if private == "?":
            self.mode(first, final == "h")
        elif final == "H":
            second = int((numbers.split(";") + ["0"])[1] or 0)
            self.row, self.column = max(first, 1) - 1, max(second, 1) - 1
        elif final == "A":
            self.row = max(self.row - max(first, 1), 0)
        elif final == "B":
            self.row = min(self.row + max(first, 1), ROWS - 1)
        elif final == "C":
            self.column = min(self.column + max(first, 1), COLUMNS - 1)
        elif final == "D":
            self.column = max(min(self.column, COLUMNS - 1) - max(first, 1), 0)
        elif final == "G":
            self.column = max(first, 1) - 1
        elif final == "K":
            self.erase(self.row, self.column, COLUMNS)
        elif final == "J" and first == 2:
            self.grid = self.blank()
        elif final == "J":
            self.erase(self.row, self.column, COLUMNS)
            for row in range(self.row + 1, ROWS):
                self.erase(row, 0, COLUMNS)

    def erase(self, row, start, end):
        start = min(start, COLUMNS - 1)
        self.grid[row][start:end] = [" "] * (end - start)

    def mode(self, number, on):
        if number == 25:
            self.cursor = on
        elif number == 1049 and on:
            self.saved = (self.grid, self.row, self.column)
            self.grid = self.blank()
        elif number == 1049 and self.saved:
            self.grid, self.row, self.column = self.saved
            self.saved = None

    def shown(self):
        lines = ["".join(row).rstrip() for row in self.grid]
        while lines and not lines[-1]:
            lines.pop()
        return {"lines": lines, "alternate": self.saved is not None, "cursor": self.cursor}


def await_text(fd, screen, text):
    deadline = time.monotonic() + PATIENCE_S
    while not any(text in line for line in screen.shown()["lines"]):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            return False
        try:
            data = os.read(fd, 65536)
        except OSError:
            return False
        screen.feed(data)
    return True


def run(fd, steps):
    screen, seen = Screen(), {}
    for step in steps:
        action, text = step.split(":", 1)
        if action == "send":
            os.write(fd, text.encode())
        elif action == "screen":
            seen[text] = screen.shown()
        elif not await_text(fd, screen, text):
            return {"failed": step, "screen": screen.shown(), "screens": seen}
    return {"failed": None, "screens": seen}


def main():
    split = sys.argv.index("--")
    steps, command = sys.argv[1:split], sys.argv[split + 1 :]
    pid, fd = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.execvp(command[0], command)
    try:
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        print(json.dumps(run(fd, steps)))
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


main()
