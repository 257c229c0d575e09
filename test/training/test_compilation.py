"""The compiled extractor: the same results and names; what is refused."""

import shutil

import pytest
import torch

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.frontends.td_speakerbeam import tcn as td_speakerbeam
from espnet_tse_ser.models.build_ser import build_ser_model
from espnet_tse_ser.models.build_tse import build_extraction_model
from espnet_tse_ser.training.compilation import check_compile, compiled_extractors


def test_results_and_names_are_the_same(tse_config, monkeypatch):
    # as on a GPU, without its code generator, and with one block, as each takes a second
    monkeypatch.setattr(td_speakerbeam, "_is_for_cpu_block", lambda *_: False)
    conf = tse_config["extractor_conf"] | {"layer": 1, "stack": 1, "i_adapt_layer": 0}
    torch.manual_seed(0)
    model = build_extraction_model(tse_config | {"extractor_conf": conf})
    names = list(model.state_dict())
    speech, lengths = torch.randn(2, 1600), torch.tensor([1600, 1400])
    calls = []

    def backend(graph, inputs):
        calls.append(graph)
        return graph.forward

    def extract():
        return model.extract(speech, lengths, speech.flip(0), lengths)[0]

    expected = extract()
    with compiled_extractors(model, True, backend=backend):
        assert not calls
        torch.testing.assert_close(extract(), expected)
        assert calls and list(model.state_dict()) == names
    before = len(calls)
    torch.testing.assert_close(extract(), expected, rtol=0, atol=0)
    assert len(calls) == before


def test_what_cannot_be_compiled(ser_config, monkeypatch):
    check_compile(False, "cpu")
    check_compile(True, "cuda")
    with pytest.raises(UserError, match="compile: true is for GPUs: .*; give false"):
        check_compile(True, "cpu")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="needs a C compiler .cc, gcc, clang. and none"):
        check_compile(True, "cuda")
    with pytest.raises(UserError, match="this model has none"):
        with compiled_extractors(build_ser_model(ser_config), True):
            pass
