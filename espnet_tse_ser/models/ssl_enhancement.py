"""Enhancement by an SSL encoder and a mask, for itself: a front-end."""

from espnet2.torch_utils.device_funcs import force_gatherable
from espnet2.train.abs_espnet_model import AbsESPnetModel

from espnet_tse_ser.models.build_ser import build_frontend
from espnet_tse_ser.recognise.enhancement import MaskHead
from espnet_tse_ser.values.kinds import check_options
from espnet_tse_ser.values.numbers import CHANNELS, LAYERS


class SSLEnhancementModel(AbsESPnetModel):
    """`MaskHead` on the features of an `SSLFrontend`: BSSE-SE (arXiv 2204.03339).

    Args:
        frontend: `SSLFrontend`. mask_hidden, mask_layers: of `MaskHead`.
    """

    def __init__(self, frontend, mask_hidden: CHANNELS = 256, mask_layers: LAYERS = 2):
        super().__init__()
        self.frontend = frontend
        self.enhancement = MaskHead(frontend.output_size(), mask_hidden, mask_layers)

    def enhance(self, speech, lengths):
        """Enhance ``(B, T)`` with valid samples ``(B,)``: ``(B, T)``, zero beyond."""
        return self.enhancement.enhance(speech, lengths, *self.frontend(speech, lengths))

    @staticmethod
    def measures_of(**model_conf):
        """What a training measures, and which way is better."""
        return {"loss": "min"}

    def forward(self, speech_mix, speech_mix_lengths, speech_ref1, **kwargs):
        """Compute the loss of a batch.

        Args:
            speech_mix: noisy ``(B, T)``, with lengths ``(B,)``; speech_ref1: clean ``(B, T)``.

        Returns:
            loss (scalar), stats, weight (the batch size).
        """
        feats = self.frontend(speech_mix, speech_mix_lengths)
        loss = self.enhancement.loss(speech_mix, speech_mix_lengths, *feats, speech_ref1)
        return force_gatherable((loss, {"loss": loss.detach()}, len(speech_mix)), loss.device)

    def collect_feats(self, **kwargs):
        """ESPnet's; there is nothing to collect."""
        return {}


def build_ssl_enhancement(config, where):
    """Build an untrained `SSLEnhancementModel`.

    Args:
        config: mapping with ``frontend: ssl``, ``frontend_conf``, ``model_conf`` and
            ``sample_rate``. where: beginning of messages: the file of the configuration.

    Raises:
        UserError: options that do not fit.
    """
    conf = check_options(config.get("model_conf"), SSLEnhancementModel, f"{where}: model_conf")
    rate = {"fs": config.get("sample_rate", 16000)}
    return SSLEnhancementModel(build_frontend(config | rate, where), **conf)
