"""Numbers about a text."""

import io
import statistics
import tokenize

import corpus
import host


class Summarizer:
    def line_lengths(self, name):
        lengths = [len(line) for line in corpus.text(name).splitlines()]
        return {
            "lines": len(lengths),
            "mean": statistics.fmean(lengths),
            "median": statistics.median(lengths),
            "stdev": statistics.stdev(lengths),
            "quartiles": statistics.quantiles(lengths, n=4),
        }

    def field(self, name, field):
        """One of the numbers above; KeyError for another."""
        return self.line_lengths(name)[field]

    def density(self, name, word):
        """Lines per occurrence of a word; ZeroDivisionError for a word that does not occur."""
        text = corpus.text(name)
        return text.count("\n") / text.count(word)

    def remember(self, name):
        """Whether this text's lines are longer than those of the one remembered last."""
        mean = self.line_lengths(name)["mean"]
        before = host.get_var("mean_length")
        host.set_var("mean_length", mean)
        host.set_var("longest", name if before is None or mean > before else "an earlier text")
        return None if before is None else mean > before

    def total(self, name, limit):
        """The sum of a text's number literals, as far as Elixir can read them."""
        tokens = tokenize.generate_tokens(io.StringIO(corpus.text(name)).readline)
        literals = [token.string for token in tokens if token.type == tokenize.NUMBER][:limit]
        total, refused = 0, []
        for literal in literals:
            try:
                total += host.tool("to_integer", literal)
            except host.ToolError:
                # 0x1F and 1e6 are numbers to Python and none to String.to_integer/1.
                refused.append(literal)
        return {"total": total, "refused": refused}
