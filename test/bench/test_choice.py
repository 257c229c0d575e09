"""What a choice by voices would be worth, against one made here."""

import re

import numpy as np
import pytest

from bench import choice
from espnet_tse_ser.audio.id_list import read_ids
from espnet_tse_ser.errors import run
from espnet_tse_ser.frontends.extraction import extract
from espnet_tse_ser.inference.model import front_end_of
from espnet_tse_ser.inference.voices import Voices
from espnet_tse_ser.metrics.signal import is_wrong_speaker, si_sdr
from espnet_tse_ser.mixtures.mixture_dir import MixtureDir


def test_normalisation():
    """In its space the speakers' own covariance is that of the identity, up to the shrinkage."""
    random = np.random.default_rng(0)
    speakers = np.repeat(np.arange(40), 50)
    own = random.normal(size=(2000, 6)) @ random.normal(size=(6, 6))
    embeddings = 3 * random.normal(size=(40, 6))[speakers] + own
    mean, transform = choice.normalisation(embeddings, speakers, 0)
    assert mean == pytest.approx(embeddings.mean(0))
    projected = (embeddings - mean) @ transform
    within = sum(np.cov(projected[speakers == s].T) for s in range(40)) / 40
    assert within == pytest.approx(np.eye(6), abs=1e-8)
    _, whole = choice.normalisation(embeddings, speakers, 1)
    assert whole == pytest.approx(np.eye(6) * whole[0, 0])


def test_choices(tiny_mixtures, tse_dir, capsys):
    data_dir, table_dir = tiny_mixtures / "mix", tiny_mixtures / "table"
    given = ["--data_dir", str(data_dir), "--table_dir", str(table_dir), "--split", "test"]
    assert run(choice.main, [*given, "--folds", "1", f"a={tse_dir}"]) == 0
    row = capsys.readouterr().out.splitlines()[-1].strip("| ").split(" | ")
    ids = read_ids(table_dir / "splits/fold1/test.lst")
    assert row[:2] == ["a", str(len(ids))]
    front_end, mixtures = front_end_of(tse_dir), MixtureDir(data_dir, ids, scored=True)
    voices, wrong, gains, clean = Voices(16000), [], [], []
    for utt in ids:
        mixture, target, enrollment = (mixtures.audio(n, utt) for n in ("mix", "ref", "enroll"))
        (interferer,) = mixtures.interferers(utt)
        (first,) = extract(front_end, [mixture], [enrollment])
        (part,), *_ = np.linalg.lstsq(first[:, None], mixture, rcond=None)
        (second,) = extract(front_end, [mixture], [mixture - part * first])
        other = np.trim_zeros(interferer)
        similar = voices.similar([first, second, target, other], [enrollment] * 4)
        pair = first, second
        gain = [si_sdr(target, estimate) - si_sdr(target, mixture) for estimate in pair]
        chosen = [0, np.argmax(gain), similar[1] > similar[0]]
        wrong.append([is_wrong_speaker(pair[c], target, [interferer]) for c in chosen])
        gains.append([gain[c] for c in chosen])
        clean.append(similar[3] > similar[2])
    for cell, wrongs, gain in zip(row[2:5], np.mean(wrong, 0), np.mean(gains, 0), strict=True):
        found = [float(number) for number in re.findall(r"[-\d.]+", cell)]
        assert found == pytest.approx([100 * wrongs, gain], abs=0.06)
    assert row[6].startswith(f"{100 * np.mean(clean):.1f} %")
    assert "%" in row[5]
