"""The data of `tiny_training`, in a module that its workers import in no time."""

import torch

from espnet_tse_ser.training.preprocessor import EmotionPreprocessor

LABELS = ["ang", "hap", "neu", "sad"]


class Utterances(torch.utils.data.Dataset):
    """Noise that is cropped at random in training."""

    def __init__(self, seed, train):
        self.speech = torch.randn(15, 9, generator=torch.Generator().manual_seed(seed)).numpy()
        self.preprocess = EmotionPreprocessor(LABELS, 6, train=True) if train else self._cut

    def __getitem__(self, uid):
        data = {"speech": self.speech[int(uid)], "emotion": LABELS[int(uid) % 4]}
        return uid, self.preprocess(uid, data)

    @staticmethod
    def _cut(uid, data):
        return EmotionPreprocessor(LABELS)(uid, data | {"speech": data["speech"][:6]})
