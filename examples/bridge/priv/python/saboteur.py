"""Ends the process it lives in, as a segmentation fault or the OOM killer would."""

import os
import signal


class Saboteur:
    def exit(self, status):
        os._exit(status)

    def kill(self):
        os.kill(os.getpid(), signal.SIGKILL)
