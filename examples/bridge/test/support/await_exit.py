"""Waits until a process has ended, whoever its parent is: await_exit.py PID SECONDS"""

import os
import select
import sys

try:
    process = os.pidfd_open(int(sys.argv[1]))
except ProcessLookupError:
    sys.exit(0)

ended, _, _ = select.select([process], [], [], float(sys.argv[2]))
sys.exit(0 if ended else 1)
