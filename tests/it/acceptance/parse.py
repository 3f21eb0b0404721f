"""Prints the samples of a page as JSON, read by the parsers of Python's client: the format, then the file."""

import json
import sys

from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client import parser as text

with open(sys.argv[2], encoding="utf-8", newline="") as file:
    page = file.read()
parser = {"text": text, "openmetrics": openmetrics}[sys.argv[1]]
families = parser.text_string_to_metric_families(page)
json.dump([[s.name, s.labels, s.value] for family in families for s in family.samples], sys.stdout)
