"""Frames between this process and the BEAM: four bytes of length (big endian), then JSON.

A thread of its own reads them, so that the end of the BEAM is noticed also while a method is
busy: when stdin closes, this process has nobody to work for and ends at once.
"""

import json
import os
import queue
import struct
import sys
import threading

LENGTH = struct.Struct(">I")


def encode(frame):
    """The JSON of a frame; raises when a value has no JSON (NaN, bytes, a set, ...)."""
    return json.dumps(frame, allow_nan=False, separators=(",", ":")).encode("ascii")


class Channel:
    """Requests from the BEAM come out of `receive`, answers to our questions out of `answer`."""

    def __init__(self, in_fd, out_fd):
        self._in_fd = in_fd
        self._out_fd = out_fd
        self._requests = queue.SimpleQueue()
        self._answers = queue.SimpleQueue()
        threading.Thread(target=self._read_all, daemon=True).start()

    @classmethod
    def over_stdio(cls):
        """Takes stdin and stdout for frames; what Python code prints goes to stderr from now."""
        in_fd, out_fd = os.dup(0), os.dup(1)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        return cls(in_fd, out_fd)

    def receive(self):
        return self._requests.get()

    def answer(self):
        return self._answers.get()

    def send(self, payload):
        """Writes one frame; `payload` comes from `encode`."""
        data = LENGTH.pack(len(payload)) + payload
        try:
            while data:
                data = data[os.write(self._out_fd, data):]
        except BrokenPipeError:
            os._exit(0)

    def _read_all(self):
        while True:
            (length,) = LENGTH.unpack(self._read(LENGTH.size))
            frame = json.loads(self._read(length))
            if frame["op"] == "exit":
                os._exit(0)
            elif frame["op"] == "answer":
                self._answers.put(frame)
            else:
                self._requests.put(frame)

    def _read(self, size):
        parts = []
        while size:
            part = os.read(self._in_fd, min(size, 1 << 16))
            if not part:
                # os._exit: the main thread may be deep in a method, and nobody waits for it.
                os._exit(0)
            parts.append(part)
            size -= len(part)
        return b"".join(parts)
