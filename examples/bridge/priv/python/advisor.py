"""What Python makes of Elixir's telemetry, for which it asks by a tool."""

import host


def milliseconds(us):
    return f"{us / 1000:.0f} ms" if us >= 100_000 else f"{us / 1000:.1f} ms"


def phrase(row):
    name = f"{row['python_class']}.{row['method']}"
    return f"{name} p95 {milliseconds(row['p95_us'])} ({row['count']} calls)"


class Advisor:
    def verdict(self, seconds, method=None, python_class=None):
        """Which methods were slowest in the last seconds (0: since the start), and all numbers.

        ToolError when the tool refuses, as it does for a negative number of seconds.
        """
        question = {
            "window": seconds,
            "method": method,
            "python_class": python_class,
            "limit": 1000,
        }
        answer = host.tool("method_performance", question)
        slowest = sorted(answer["methods"], key=lambda row: row["p95_us"], reverse=True)[:3]
        verdict = ", ".join(map(phrase, slowest)) or "nothing was called"
        return {"verdict": verdict, **answer}
