"""Serves the inventory of the page in the file named first with Python's client, as its documentation shows."""

import re
import sys
import threading

from prometheus_client import REGISTRY, Gauge, start_http_server

label = re.compile(r'(\w+)="([^"]*)"')
helps = {}
gauges = {}
with open(sys.argv[1], encoding="utf-8") as page:
    for line in page:
        if line.startswith("# HELP "):
            _, _, name, text = line.rstrip("\n").split(" ", 3)
            helps[name] = text
        elif line.startswith("container_registry_") and not line.startswith("container_registry_exporter_"):
            series, value = line.rsplit(" ", 1)
            name = series.split("{", 1)[0]
            labels = label.findall(series)
            if name not in gauges:
                gauges[name] = Gauge(name, helps[name], [each for each, _ in labels])
            gauges[name].labels(*[each for _, each in labels]).set(float(value))

server, thread = start_http_server(0, addr="127.0.0.1", registry=REGISTRY)
print(f"127.0.0.1:{server.server_port}", flush=True)
thread.join()
