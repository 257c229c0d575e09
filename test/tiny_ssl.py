"""A HuBERT of two layers and 16 features, whose frames are 20 samples apart, and its weights."""

import torch

ARCH = {
    "type": "hubert",
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [[8, 10, 5], [8, 4, 4]],
    "extractor_conv_bias": False,
    "encoder_embed_dim": 16,
    "encoder_projection_dropout": 0.1,
    "encoder_pos_conv_kernel": 4,
    "encoder_pos_conv_groups": 2,
    "encoder_num_layers": 2,
    "encoder_num_heads": 2,
    "encoder_attention_dropout": 0.1,
    "encoder_ff_interm_features": 16,
    "encoder_ff_interm_dropout": 0.0,
    "encoder_dropout": 0.1,
    "encoder_layer_norm_first": False,
    "encoder_layer_drop": 0.0,
}


def write_weights(path, seed=0, arch=None):
    """Write the state dict of torchaudio's model, with every weight random."""
    import torchaudio

    params = {k: v for k, v in (arch or ARCH).items() if k != "type"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = torchaudio.models.wav2vec2_model(**params, aux_num_out=None)
        for parameter in model.parameters():
            parameter.data.add_(torch.randn_like(parameter) * 0.1)
    torch.save(model.state_dict(), path)
    return path


def frontend_conf(weights, **changes):
    """``frontend_conf`` of it, for a configuration."""
    return {"arch": "custom", "arch_conf": ARCH, "weights": str(weights)} | changes
