"""Whose features can be kept, without the front-end."""

import pytest

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.recognise.frozen import check_frozen, why_not_frozen


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"frontend": "ssl"}, None),
        ({"frontend": "SSL", "frontend_conf": None}, None),
        ({"frontend": "ssl", "frontend_conf": {"finetune": "no", "layer": 3}}, None),
        ({"frontend": "ssl", "frontend_conf": {"finetune": True}}, "finetune: true changes"),
        ({"frontend": "ssl", "frontend_conf": {"finetune": "yes"}}, "finetune: true changes"),
        ({"frontend": "ssl", "frontend_conf": {"layer": "Weighted"}}, "layer: weighted is learned"),
        ({"frontend": "ssl", "frontend_conf": {"weights": None}}, "weights: null makes another"),
        ({"frontend": "logmel"}, "front-end 'logmel' is computed as fast"),
        ({}, "front-end 'logmel' is computed as fast"),
    ],
)
def test_whose_features_can_be_kept(config, reason):
    found = why_not_frozen(config)
    if reason is None:
        assert found is None
        check_frozen(config)
        return
    assert found.startswith(reason)
    with pytest.raises(UserError, match=f"train.yaml: features cannot be kept: {reason}"):
        check_frozen(config, "train.yaml")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"frontend": ["ssl"]}, "train.yaml: frontend: expected a text"),
        (
            {"frontend": "ssl", "frontend_conf": [1]},
            "train.yaml: frontend_conf: expected a mapping",
        ),
        (
            {"frontend": "ssl", "frontend_conf": {"finetune": "maybe"}},
            "train.yaml: frontend_conf: finetune: expected true or false, got 'maybe'",
        ),
    ],
)
def test_what_is_no_front_end(config, message):
    with pytest.raises(UserError, match=message):
        why_not_frozen(config, "train.yaml")
