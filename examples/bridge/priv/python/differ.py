"""How texts and words differ."""

import difflib
import re

import corpus


def head(name, lines):
    return corpus.text(name).splitlines()[:lines]


class Differ:
    def compare(self, left, right, lines):
        """Lines added and removed between the heads of two texts."""
        diff = difflib.unified_diff(head(left, lines), head(right, lines), n=0, lineterm="")
        # The first two lines name the files.
        signs = [line[0] for line in diff][2:]
        return {"added": signs.count("+"), "removed": signs.count("-")}

    def similarity(self, left, right):
        """0.0 to 1.0, of the first words of two texts. Pure: same arguments, same result."""
        words = [re.findall(r"\w+", corpus.text(name))[:400] for name in (left, right)]
        return difflib.SequenceMatcher(None, *words, autojunk=False).ratio()

    def closest(self, word, name, limit):
        """Words of a text that look like the given one."""
        words = sorted(set(re.findall(r"[a-z]{4,}", corpus.text(name))))
        return difflib.get_close_matches(word, words[:500], n=limit)
