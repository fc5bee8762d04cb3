"""Reads scrapes with Prometheus' own client: read_strictly.py FILE...

Prints a JSON array with null or what is wrong for each. The format is what the name of the file ends in, .text or
.openmetrics.
"""

import json
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text


def fault(path):
    parse = {"text": text, "openmetrics": openmetrics}[path.rsplit(".", 1)[1]]
    with open(path, encoding="utf-8", newline="") as scrape:
        try:
            list(parse(scrape.read()))
        except Exception as error:
            return f"{type(error).__name__}: {error}"


json.dump([fault(path) for path in sys.argv[1:]], sys.stdout)
