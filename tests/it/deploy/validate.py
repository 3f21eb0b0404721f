"""Validates the Kubernetes objects of a YAML stream on stdin strictly: an unknown field is a problem, too.

Whatever is wrong with one ends the program with 1.
"""

import importlib
import sys

import kubernetes_validate
import yaml


def validate_custom(document, module):
    model = getattr(importlib.import_module(module), document["kind"]).model_validate(document)
    known(document, model.model_dump(by_alias=True, exclude_unset=True, mode="json"), document["kind"])


def known(given, understood, path):
    """The models drop fields that they do not know: whatever is gone is unknown."""
    if isinstance(given, dict) and isinstance(understood, dict):
        for key, value in given.items():
            if key not in understood:
                sys.exit(f"unknown field: {path}.{key}")
            known(value, understood[key], f"{path}.{key}")
    elif isinstance(given, list):
        for number, (one, other) in enumerate(zip(given, understood, strict=True)):
            known(one, other, f"{path}[{number}]")


for document in yaml.safe_load_all(sys.stdin):
    if document is None:
        continue
    group, _, version = document["apiVersion"].rpartition("/")
    if group == "monitoring.coreos.com":
        validate_custom(document, f"cloudcoil.models.prometheus_operator.{version}")
    else:
        kubernetes_validate.validate(document, "1.37", strict=True)
