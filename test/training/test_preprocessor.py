"""Labels to indices and cropping."""

import numpy as np
import pytest

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.training.preprocessor import EmotionPreprocessor

LABELS = ["ang", "hap"]


def test_labels_become_indices():
    speech = np.arange(10, dtype=np.float64)
    out = EmotionPreprocessor(LABELS)("a", {"speech": speech, "emotion": "hap"})
    assert out["emotion"].tolist() == [1] and out["emotion"].dtype == np.int64
    assert out["speech"].dtype == np.float32
    np.testing.assert_array_equal(out["speech"], speech)


def test_unlabelled_speech_passes():
    assert list(EmotionPreprocessor(LABELS)("a", {"speech": np.zeros(3)})) == ["speech"]


def test_unknown_label():
    with pytest.raises(UserError, match="'a-1': unknown emotion 'joy'; known: ang hap"):
        EmotionPreprocessor(LABELS)("a-1", {"speech": np.zeros(3), "emotion": "joy"})


def test_crop_in_training_only():
    data = {"speech": np.arange(10), "emotion": "ang"}
    crop = EmotionPreprocessor(LABELS, 4, train=True)
    starts = set()
    for crop.epoch in range(200):
        speech = crop("a", data)["speech"]
        starts.add(int(speech[0]))
        np.testing.assert_array_equal(speech, np.arange(speech[0], speech[0] + 4))
    assert starts == set(range(7))
    assert len(EmotionPreprocessor(LABELS, 4, train=False)("a", data)["speech"]) == 10
    assert len(EmotionPreprocessor(LABELS, 10, train=True)("a", data)["speech"]) == 10


def test_streams_of_an_utterance_are_cropped_at_one_place():
    data = {name: np.arange(10) + n for n, name in enumerate(("clean", "mixture", "speech"))}
    data |= {"enrollment": np.arange(7), "embedding": np.arange(5), "emotion": "hap"}
    crop = EmotionPreprocessor(LABELS, 4, train=True)
    starts = set()
    for crop.epoch in range(50):
        out = crop("a", data)
        starts.add(int(out["clean"][0]))
        for n, name in enumerate(("clean", "mixture", "speech")):
            np.testing.assert_array_equal(out[name], np.arange(4) + out["clean"][0] + n)
        assert len(out["enrollment"]) == 7 and len(out["embedding"]) == 5
        alone = crop("a", {"speech": data["speech"], "emotion": "hap"})
        np.testing.assert_array_equal(alone["speech"], out["speech"])
    assert starts == set(range(7))


def test_features_are_cropped_by_frames():
    data = {"speech": np.arange(20, dtype=np.float16).reshape(10, 2)}
    starts = set()
    for seed in range(200):
        crop = EmotionPreprocessor(LABELS, 4, train=True, max_frames=8, seed=seed)
        feats = crop("a", data)["speech"]
        assert feats.dtype == np.float32
        start = int(feats[0, 0]) // 2
        starts.add(start)
        np.testing.assert_array_equal(feats, data["speech"][start : start + 8])
    assert starts == {0, 1, 2}
    for crop in (EmotionPreprocessor(LABELS, 4, True), EmotionPreprocessor(LABELS, 4, False, 8)):
        assert len(crop("a", data)["speech"]) == 10
