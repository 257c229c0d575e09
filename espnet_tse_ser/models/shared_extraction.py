"""One encoder for target-speech extraction and emotion recognition, steered by an enrollment."""

import functools

import torch

from espnet_tse_ser.audio.masks import frame_mask
from espnet_tse_ser.models.shared import SharedModel


class SharedExtractionModel(SharedModel):
    """`SharedModel` of a target among talkers: both heads are adapted to who is enrolled.

    The encoder embeds the enrollment too, by a weighted sum of its layers that is of its own, and
    the mean over time. Linear layers make of it what the features of the emotion and the hidden
    units of the `MaskHead` are multiplied by, as TD-SpeakerBeam adapts its network (Delcroix et
    al., ICASSP 2020).

    Args:
        labels, ...: of `SharedModel`. Its speech is the mixture.

    Raises:
        ValueError: as `SharedModel`.
    """

    inputs = ("speech", "enrollment")

    @functools.wraps(SharedModel.__init__)  # its options
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        size, hidden = self.frontend.output_size(), self.enhancement.mask.in_features
        self.voice_weights = torch.nn.Parameter(torch.zeros(len(self.frontend.layer_weights)))
        self.voice_weights._no_weight_decay = True
        self.to_emotion = torch.nn.Linear(size, size)
        self.to_mask = torch.nn.Linear(size, hidden)
        for layer in (self.to_emotion, self.to_mask):  # about no adaptation
            torch.nn.init.ones_(layer.bias)

    def embed_voice(self, enrollment, enrollment_lengths):
        """Embed enrollments ``(B, T')`` with valid samples ``(B,)``: ``(B, D)``."""
        layers, num_frames = self.frontend.layers(enrollment, enrollment_lengths)
        frames = self.frontend.sum(layers, self.voice_weights)
        mask = frame_mask(num_frames, frames.shape[1])[..., None]
        return torch.where(mask, frames, 0.0).sum(1) / num_frames[:, None]

    def for_heads(self, speech, speech_lengths, enrollment, enrollment_lengths):
        """As of `SharedModel`."""
        emotion, enhancement, num_frames, balance = self.share(speech, speech_lengths)
        voice = self.embed_voice(enrollment, enrollment_lengths)
        emotion = emotion * self.to_emotion(voice)[:, None]
        return emotion, enhancement, num_frames, balance, self.to_mask(voice)
