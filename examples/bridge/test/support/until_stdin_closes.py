"""Runs a command until it ends or stdin closes: until_stdin_closes.py LOG COMMAND...

A port's stdin closes also when the BEAM is killed, so the command never outlives the tests. Its
output goes to the file LOG, its exit status is passed on, its process id is printed.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1
PATIENCE = 10


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


with open(sys.argv[1], "ab") as log:
    command = subprocess.Popen(
        sys.argv[2:],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        preexec_fn=die_with_parent,
    )

print(command.pid, flush=True)
ended = os.pidfd_open(command.pid)

# Nobody writes to stdin: it is readable when it is closed.
readable, _, _ = select.select([sys.stdin, ended], [], [])

if ended not in readable:
    command.terminate()
    if not select.select([ended], [], [], PATIENCE)[0]:
        command.kill()

sys.exit(command.wait())
