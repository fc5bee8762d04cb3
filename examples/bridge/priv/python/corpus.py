"""The text everything here works on: the source files of Python's own standard library."""

import functools
import os
import sysconfig
import tokenize

SMALLEST, LARGEST = 8_000, 100_000


@functools.lru_cache(maxsize=None)
def paths():
    """Name to path of the modules of middling size, in alphabetical order."""
    folder = sysconfig.get_paths()["stdlib"]
    files = sorted(os.scandir(folder), key=lambda entry: entry.name)
    return {
        entry.name[:-3]: entry.path
        for entry in files
        if entry.name.endswith(".py")
        and not entry.name.startswith("_")
        and SMALLEST <= entry.stat().st_size <= LARGEST
    }


@functools.lru_cache(maxsize=64)
def text(name):
    """The source of a module; KeyError for a name that `paths` does not have."""
    # tokenize.open honours the coding line, as the interpreter itself does.
    with tokenize.open(paths()[name]) as file:
        return file.read()


class Corpus:
    """Tells the Elixir side which texts there are."""

    def names(self):
        return list(paths())

    def size(self, name):
        return len(text(name))
