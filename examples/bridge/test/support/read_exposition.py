"""Reads a scrape with Prometheus' own client: read_exposition.py text|openmetrics FILE

Prints a JSON array of [name, labels, value, exemplar], exemplar being null or [labels, value].
The parsers raise when a scrape is not what the formats demand.
"""

import json
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text

parse = {"text": text, "openmetrics": openmetrics}[sys.argv[1]]

with open(sys.argv[2], encoding="utf-8", newline="") as scrape:
    samples = [sample for family in parse(scrape.read()) for sample in family.samples]

json.dump(
    [
        [s.name, s.labels, s.value, s.exemplar and [s.exemplar.labels, s.exemplar.value]]
        for s in samples
    ],
    sys.stdout,
)
