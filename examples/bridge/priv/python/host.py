"""What an instance may ask of Elixir while one of its methods runs.

Each question is a frame to the BEAM and the wait for its answer. There is one call at a time in
a worker, so there is one question at a time as well.
"""

import itertools

import channel

_ids = itertools.count(1)
_channel = None
_session = None


class ToolError(Exception):
    """The Elixir tool refused or raised."""


class SessionError(Exception):
    """The call has no session, or the session has expired."""


def connect(to):
    global _channel
    _channel = to


def enter(session):
    """The session of the call that is about to run; None for a call without one."""
    global _session
    _session = session


def tool(name, *args):
    """Runs an Elixir tool and returns what it returned; raises ToolError."""
    return _ask({"kind": "tool", "name": name, "args": list(args)}, ToolError)


def set_var(name, value):
    """Sets a variable of the call's session; raises SessionError."""
    _ask({"kind": "set", "name": name, "value": value}, SessionError)


def get_var(name, default=None):
    """A variable of the call's session, or `default` when it is not set; raises SessionError."""
    answer = _ask({"kind": "get", "name": name}, SessionError)
    return answer["value"] if answer["found"] else default


def _ask(question, error):
    frame = {"op": "ask", "id": next(_ids), "session": _session, **question}
    _channel.send(channel.encode(frame))
    answer = _channel.answer()
    if "error" in answer:
        raise error(answer["error"])
    return answer["value"]
