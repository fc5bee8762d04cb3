"""Text cut into tokens by a regular expression."""

import collections
import re

import corpus
import host


class Tokenizer:
    def __init__(self, pattern, ignore_case=False):
        self._pattern = re.compile(pattern, re.IGNORECASE if ignore_case else 0)

    def count(self, name):
        tokens = self._pattern.findall(corpus.text(name))
        return {"tokens": len(tokens), "distinct": len(set(tokens))}

    def top(self, name, limit):
        """The most common tokens, each with how often it occurs."""
        return collections.Counter(self._pattern.findall(corpus.text(name))).most_common(limit)

    def replace(self, pattern, replacement, text):
        """re.error when the pattern is not a regular expression."""
        return re.sub(pattern, replacement, text)

    def stems(self, name, limit):
        """The most common tokens under their stems; the stemmer is a tool of Elixir."""
        groups = collections.defaultdict(list)
        refused = 0
        for token, _ in self.top(name, limit):
            try:
                groups[host.tool("stem", token)].append(token)
            except host.ToolError:
                refused += 1
        return {"stems": groups, "refused": refused}
