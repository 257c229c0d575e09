"""Pools and mixtures of them, of which the tests of a file read only."""

import pytest
from tiny_corpora import write_corpora

from espnet_tse_ser.mixtures.drawing import draw_mixtures
from espnet_tse_ser.mixtures.mixing import Levels
from espnet_tse_ser.mixtures.pool import Pool


@pytest.fixture(scope="module")
def pools(tmp_path_factory):
    corpora = write_corpora(tmp_path_factory.mktemp("corpora"))
    return Pool.read(corpora.emo), Pool.read(corpora.interferer)


@pytest.fixture(scope="module")
def mixtures(pools):
    return draw_mixtures(*pools, Levels(), seed=0)
