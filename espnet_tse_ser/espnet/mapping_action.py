"""Options that hold a mapping: ``--model_conf dropout=0.1`` or ``--model_conf '{dropout: 0.1}'``.

ESPnet's action of this kind evaluates the text as Python, and lets its YAML make any object.
"""

import argparse
import copy
import re

from espnet_tse_ser import strict_yaml


class MappingAction(argparse.Action):
    """Update a mapping by ``key=value``, ``key.inner=value`` (values are YAML), or a mapping."""

    def __call__(self, parser, namespace, text, option=None):
        mapping = copy.deepcopy(getattr(namespace, self.dest))
        mapping = mapping if isinstance(mapping, dict) else {}
        match = re.fullmatch(r"\s*([\w.]+)=(.*)", text, re.DOTALL)
        if match:
            *outer, name = match[1].split(".")
            inner = mapping
            for key in outer:
                if not isinstance(inner.get(key), dict):
                    inner[key] = {}
                inner = inner[key]
            inner[name] = strict_yaml.parse(match[2], f"{option} {match[1]}")
        else:
            given = strict_yaml.parse(text, option)
            if not isinstance(given, dict):
                parser.error(f"{option}: expected key=value or {{key: value}}, got {text!r}")
            mapping.update(given)
        setattr(namespace, self.dest, mapping)
