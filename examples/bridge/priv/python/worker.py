"""One worker of the pool: holds instances by ref and runs their methods, one call at a time.

Frames in:   create {id, ref, class, args, session}   call {id, ref, method, args, session}
             release {refs}   answer {id, value | error}   exit {}
Frames out:  hello {python}   result {id, value}   error {id, type, message, traceback}
             ask {id, kind: tool | set | get, name, args | value, session}

The options of handicap.py make a worker slow, or have it fail.
"""

import platform
import signal
import traceback

import channel
import host
from advisor import Advisor
from compressor import Compressor
from corpus import Corpus
from differ import Differ
from handicap import Handicap
from ledger import Ledger
from probe import Probe
from saboteur import Saboteur
from sqlite_index import SqliteIndex
from summarizer import Summarizer
from tokenizer import Tokenizer

CLASSES = {
    cls.__name__: cls
    for cls in (
        Advisor,
        Compressor,
        Corpus,
        Differ,
        Ledger,
        Probe,
        Saboteur,
        SqliteIndex,
        Summarizer,
        Tokenizer,
    )
}


class Worker:
    def __init__(self, handicap):
        self._instances = {}
        self._handicap = handicap

    def create(self, request):
        self._instances[request["ref"]] = CLASSES[request["class"]](**request["args"])
        return request["ref"]

    def call(self, request):
        method = request["method"]
        if method.startswith("_"):
            raise AttributeError(f"{method!r} is private")
        self._handicap.before_call()
        return getattr(self._instances[request["ref"]], method)(*request["args"])

    def release(self, refs):
        for ref in refs:
            instance = self._instances.pop(ref, None)
            if hasattr(instance, "close"):
                instance.close()


def type_name(error):
    cls = type(error)
    return cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__name__}"


def reply_to(request, run):
    """The encoded reply; encoding is part of the call, since a result may have no JSON."""
    try:
        host.enter(request["session"])
        return channel.encode({"op": "result", "id": request["id"], "value": run(request)})
    except Exception as error:
        return channel.encode(
            {
                "op": "error",
                "id": request["id"],
                "type": type_name(error),
                "message": str(error),
                "traceback": traceback.format_exc(limit=-3),
            }
        )


def main():
    # The pool decides when a worker ends; Ctrl-C in the terminal is the BEAM's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    wire = channel.Channel.over_stdio()
    host.connect(wire)
    worker = Worker(Handicap.of_command_line())
    wire.send(channel.encode({"op": "hello", "python": platform.python_version()}))

    while True:
        request = wire.receive()
        if request["op"] == "create":
            wire.send(reply_to(request, worker.create))
        elif request["op"] == "call":
            wire.send(reply_to(request, worker.call))
        elif request["op"] == "release":
            worker.release(request["refs"])


if __name__ == "__main__":
    main()
