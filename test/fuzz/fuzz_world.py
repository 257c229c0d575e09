"""A small valid set of files of every kind, and the commands that read them.

Everything lies below one directory; what a command writes goes to ``out`` in it. In options,
``{root}`` stands for that directory and ``{out}`` for what the command writes.
"""

import importlib
import os
import shutil
import signal
from dataclasses import dataclass

import numpy as np
import yaml

FS = 16000
LABELS = ["ang", "neu"]
_TSE = {
    "encoder": "conv",
    "encoder_conf": {"channel": 8, "kernel_size": 32, "stride": 16},
    "extractor": "td_speakerbeam",
    "extractor_conf": {
        **{"layer": 1, "stack": 2, "bottleneck_dim": 4, "hidden_dim": 8, "skip_dim": 4},
        **{"i_adapt_layer": 1, "adapt_layer_type": "mul", "adapt_enroll_dim": 4},
    },
    "decoder": "conv",
    "decoder_conf": {"channel": 8, "kernel_size": 32, "stride": 16},
    "criterions": [
        {"name": "si_snr", "conf": {}, "wrapper": "fixed_order", "wrapper_conf": {"weight": 1.0}}
    ],
    "sample_rate": FS,
}
_SER = {
    "frontend": "logmel",
    "frontend_conf": {"n_mels": 16},
    "normalize": "global_mvn",
    "specaug": "specaug",
    "specaug_conf": {"freq_width": 3},
    "preencoder": "conv_stem",
    "preencoder_conf": {"output_size": 16},
    "encoder": "shift_cnn",
    "encoder_conf": {"dropout": 0.1},
    "pooling": "stats",
    "pooling_conf": {},
    "model_conf": {},
    "fs": FS,
}
_MIXING = {
    **{"segment": 3200, "enroll_segment": 3200, "steps_per_epoch": 2, "valid_examples": 2},
    "valid_share": 0.2,
}
_TRAINING = {"optim": "adamw", "optim_conf": {"lr": 0.01}, "max_epoch": 1}
CONFIGURATIONS = {
    "tse": _TSE,
    "train_tse": _TSE
    | _TRAINING
    | {
        "model_conf": {"speaker_loss_weight": 0.5},
        "mixing_conf": _MIXING,
        "batch_size": 2,
        "best_model_criterion": [["valid", "loss", "min"]],
        "keep_nbest_models": 1,
    },
    "train_ser": _SER | _TRAINING | {"batch_type": "unsorted", "batch_size": 4},
    "train_lstm": _SER
    | _TRAINING
    | {
        **{"specaug": "ssl_specaug", "specaug_conf": {"time_width": 5, "channel_width": 3}},
        **{"encoder": "shift_lstm", "encoder_conf": {"hidden_size": 4}},
        **{"batch_type": "unsorted", "batch_size": 4, "max_seconds": 0.3},
        "scheduler": "warmup_cosine",
        "scheduler_conf": {
            **{"warmup_steps": "0.5 epochs", "max_steps": "1 epochs"},
            **{"init_lr": 1e-4, "min_lr": 1e-5},
        },
    },
    "train_ssl": _SER
    | _TRAINING
    | {
        **{"frontend": "ssl", "preencoder": None, "preencoder_conf": {}},
        **{"batch_type": "unsorted", "batch_size": 4},
    },
    "train_joint": _TRAINING
    | {
        "model_conf": {"w_tse": 0.1, "w_ser": 1.0},
        "mixing_conf": {"dynamic": True, "levels": "loudness", "max_samples": 4000},
        "batch_size": 4,
    },
    "snr_0": {"about": "As loud.", "sweep": "SNR, dB", "value": 0, "snr": 0.0},
    "talkers_3": {"about": "Another one.", "sweep": "talkers", "value": 3, "talkers": 3},
    "emotional": {
        **{"about": "Emotional enrollment.", "sweep": "enrollment", "value": "emotional"},
        **{"enrollment": "emotional", "enrollment_seconds": 0.2},
    },
}
_PAPER = {"source": "A paper", "wa": 60.5, "ua": 61.0}
SYSTEMS = {
    "noisy_noisy": {"row": 1, "label": "SC", "train": "noisy", "test": "noisy", "paper": _PAPER},
    "base": {
        **{"row": 2, "label": "SB_SC", "train": "denoised", "test": "denoised"},
        "claims": [{"than": "noisy_noisy", "by_gender_state": True}],
    },
    "ft": {
        **{"row": 3, "label": "SB+SC", "train": "joint", "test": "joint", "starts_from": "base"},
        "claims": [{"than": "base", "gap_to": "noisy_noisy", "in_sweeps": True}],
    },
}


@dataclass(frozen=True)
class Probe:
    """A command line that succeeds on the files as they are.

    The value of an option is a text, a list of its words, or a tuple of what is given repeatedly.
    ``before`` are directories copied into ``out`` first: (source, name).
    """

    name: str
    command: str
    options: dict
    before: tuple = ()
    stdin: str = ""
    words: tuple = ()

    def argv(self, root, out):
        """The command line: a list of strings."""
        argv = list(self.words)
        for name, value in self.options.items():
            for given in value if isinstance(value, tuple) else (value,):
                values = given if isinstance(given, list) else [given]
                argv += [f"--{name}", *(str(v) for v in values if v is not True)]
        return [fill(word, root, out) for word in argv]


def fill(text, root, out):
    """Put the directories into a text."""
    return text.replace("{root}", str(root)).replace("{out}", str(out))


def load_main(command):
    """``main`` of a command."""
    return importlib.import_module(f"espnet_tse_ser.bin.{command}").main


_POOLS = {"targets": "{root}/emo", "sources": "{root}/interferer"}
_SER_DATA = {"scp": "{root}/mix/wav.scp", "data_dir": "{root}/mix"}
_SER_DATA |= {"split": "{root}/table/splits/fold1"}
_JOINT_DATA = _POOLS | {
    **{"data_dir": "{root}/mix", "split": "{root}/table/splits/fold1"},
    **{"tse_dir": "{root}/exp/tse", "config": "{root}/conf/train_joint.yaml"},
}
_STATS = "{root}/stats/fold1/feats_stats.npz"
_FEATS = _SER_DATA | {"config": "{root}/conf/train_ssl.yaml", "feats": "{root}/feats"}
_FEATS |= {"stats": "{root}/stats_ssl/fold1/feats_stats.npz"}
_OUT = {"output_dir": "{out}"}
_TEST = {"data_dir": "{root}/mix", "ids": "{root}/table/splits/fold1/test.lst"}
_TEST |= {"output": "{out}/hyp.tsv"}
_SYSTEMS = {"systems_dir": "{root}/systems"}
_SCORING = _SYSTEMS | {"scores_dir": "{out}/scores", "table_dir": "{root}/table"}
_SCORING |= {"row": (["base/default", "base.yaml"], ["ft/default", "ft.yaml"])}
_SER_ROW = ["{root}/exp/ser", "ser.yaml"]
_TESTED = (["noisy_noisy/default", *_SER_ROW], ["base/default", *_SER_ROW])
_TESTED += (["ft/default", "{root}/exp/joint", "joint.yaml"],)
_CONDITION = ["noisy", "{root}/mix/wav.scp", "{root}/hyps/noisy/fold{fold}/hyp.tsv"]

TRAINING = ("tse_train", "ser_train", "tse_ser_train")

# Those that make the set of files, in this order.
MAKING = (
    Probe(
        "mixture_table",
        "mixture_table",
        _POOLS | _OUT | {"dev_split": "utterance", "dev_share": "0.34"},
    ),
    Probe("simulate", "simulate", _POOLS | _OUT | {"table_dir": "{root}/table"}),
    Probe(
        "simulate_combine", "simulate",
        _POOLS | _OUT | {"table_dir": "{root}/table", "combine": True},
        before=(("mix", "."),),
    ),
    Probe("stats", "ser_stats", _OUT | {"config": "{root}/conf/train_ser.yaml"}
          | {"scp": "{root}/mix/wav.scp", "splits": "{root}/table/splits"}),
    Probe("ser_features", "ser_features", _OUT | {"config": "{root}/conf/train_ssl.yaml"}
          | {"scp": "{root}/mix/wav.scp"}),
    Probe("ser_features_combine", "ser_features", _OUT | {"config": "{root}/conf/train_ssl.yaml"}
          | {"scp": "{root}/mix/wav.scp", "combine": True}, before=(("feats", "."),)),
    Probe("stats_ssl", "ser_stats", _OUT | {"config": "{root}/conf/train_ssl.yaml"}
          | {"scp": "{root}/mix/wav.scp", "splits": "{root}/table/splits"}
          | {"feats": "{root}/feats"}),
    Probe("tse_train", "tse_train", _OUT | {"config": "{root}/conf/train_tse.yaml"}
          | {"pool": "{root}/pretrain"}),
    Probe("ser_train", "ser_train", _SER_DATA | _OUT | {"stats": _STATS}
          | {"config": "{root}/conf/train_ser.yaml", "labels": LABELS}),
    Probe("ssl_train", "ser_train", _FEATS | _OUT | {"labels": LABELS}),
    Probe("joint_train", "tse_ser_train", _JOINT_DATA | _OUT | {"ser_dir": "{root}/exp/ser/fold1"}),
    Probe("extract", "extract", _OUT | {"model_dir": "{root}/exp/tse", "data_dir": "{root}/mix"}),
    Probe("extract_combine", "extract",
          _OUT | {"model_dir": "{root}/exp/tse", "data_dir": "{root}/mix", "combine": True},
          before=(("denoised", "."),)),
    Probe("tse_score", "tse_score", {"data_dir": "{root}/mix", "denoised_dir": "{root}/denoised"}
          | {"output": "{out}/score_utt.tsv"}),
)  # fmt: skip

# Where what they write is put.
PLACES = {
    **{"mixture_table": "table", "stats": "stats", "stats_ssl": "stats_ssl"},
    **{"simulate": "mix", "simulate_combine": "mix", "ser_features": "feats"},
    **{"ser_features_combine": "feats", "tse_train": "exp/tse", "ser_train": "exp/ser/fold1"},
    **{"ssl_train": "exp/ssl/fold1", "joint_train": "exp/joint/fold1", "extract": "denoised"},
    **{"extract_combine": "denoised", "tse_score": "tse_scores"},
}

PROBES = MAKING + (
    Probe("check_data", "check_data", _POOLS | {"pretrain": "{root}/pretrain"}
          | {"table_dir": "{root}/table", "labels": "ang neu", "folds": "1 2"}),
    Probe("tse_stats", "tse_stats", _OUT | {"config": "{root}/conf/train_tse.yaml"}
          | {"pool": "{root}/pretrain"}),
    Probe("lstm_train", "ser_train", _SER_DATA | _OUT | {"stats": _STATS}
          | {"config": "{root}/conf/train_lstm.yaml", "labels": LABELS}),
    Probe("joint_scratch", "tse_ser_train", _JOINT_DATA | _OUT | {"stats": _STATS}
          | {"ser_config": "{root}/conf/train_ser.yaml", "labels": LABELS}),
    Probe("tse_resume", "tse_train", _OUT | {"config": "{root}/conf/train_tse.yaml"}
          | {"pool": "{root}/pretrain", "max_epoch": 2}, before=(("stopped/tse", "."),)),
    Probe("ser_resume", "ser_train", _SER_DATA | _OUT | {"stats": _STATS}
          | {"config": "{root}/conf/train_ser.yaml", "labels": LABELS, "max_epoch": 2},
          before=(("stopped/ser", "."),)),
    Probe("joint_resume", "tse_ser_train", _JOINT_DATA | _OUT | {"max_epoch": 2}
          | {"ser_dir": "{root}/exp/ser/fold1"}, before=(("stopped/joint", "."),)),
    Probe("recognize", "recognize", _TEST | {"scp": "{root}/mix/wav.scp"}
          | {"model_dir": "{root}/exp/ser/fold1"}),
    Probe("recognize_joint", "recognize", _TEST | {"scp": "{root}/mix/wav.scp"}
          | {"model_dir": "{root}/exp/joint/fold1", "output_audio": "{out}/audio"}),
    Probe("recognize_feats", "recognize", _TEST | {"scp": "{root}/mix/wav.scp"}
          | {"model_dir": "{root}/exp/ssl/fold1", "feats": "{root}/feats"}),
    Probe("recognize_two", "recognize", _TEST | {"scp": "{root}/denoised/wav.scp"}
          | {"model_dir": "{root}/exp/ser/fold1", "by_ua_and_wa": True}),
    Probe("score", "score", _SCORING | {"tse_scores": "default={root}/tse_scores/score_utt.tsv"}
          | {"seeds": "1"}, before=(("scores", "scores"),)),
    Probe("import_hypotheses", "import_hypotheses",
          _TEST | {"table": "{root}/hyps/noisy/fold1/hyp.tsv", "labels": "ang neu"}),
    Probe("systems", "systems", {"conf_dir": "{root}/systems"}
          | {f"{kind}_config": f"{{root}}/conf/train_{kind}.yaml"
             for kind in ("tse", "ser", "joint")}),
    Probe("preservation", "preservation", _OUT | {"data_dir": "{root}/mix"}
          | {"clean_hyp": "{root}/hyps/clean/fold{fold}/hyp.tsv", "condition": _CONDITION}),
    Probe("results", "results", _OUT | _SYSTEMS | {"scores_dir": "{root}/scores"}
          | {"exp_dir": "{root}/curves", "rows": "base/default ft/default"}),
    Probe("compare", "compare", {"json": True},
          words=("{root}/scores/ft/default", "{root}/scores/base/default/score_utt.tsv")),
    Probe("sweeps_report", "sweeps_report", _OUT | _SYSTEMS | {"sweeps_dir": "{root}/sweeps"}
          | {"conf_dir": "{root}/conf/sweeps", "scores_dir": "{root}/scores"}),
    *(
        Probe(f"evaluate_{name}", "evaluate", _POOLS | _SYSTEMS | {"output_dir": "{out}/test"}
              | {"config": f"{{root}}/conf/sweeps/{name}.yaml"}
              | {"front_ends": "default={root}/exp/tse", "row": _TESTED}
              | {"table_dir": "{root}/table", "folds": "1"})
        for name in ("snr_0", "talkers_3", "emotional")
    ),
    Probe("pack", "pack", {"model_dir": "{root}/exp/joint/fold1", "output": "{out}/model.zip"}),
    Probe("infer", "infer", {"model_dir": "{root}/exp/ser/fold1", "mixture": "{root}/a.wav"}),
    Probe("infer_joint", "infer", {"model_dir": "{root}/exp/joint/fold1"}
          | {"mixture": "{root}/a.wav", "enrollment": "{root}/b.wav"}
          | {"output_wav": "{out}/target.wav"}),
    Probe("infer_long", "infer", {"model_dir": "{root}/exp/joint/fold1"}
          | {"mixture": "{root}/long.wav", "enrollment": "{root}/b.wav"}
          | {"output_wav": "{out}/target.wav", "window_seconds": 1, "segment_seconds": 0.5}),
    Probe("format_audio", "format_audio", _OUT | {"data_dir": "{root}/raw", "min_duration": 0.1}),
    Probe("format_combine", "format_audio", _OUT | {"data_dir": "{root}/raw", "min_duration": 0.1,
          "combine": True}, before=(("formatting", "."),)),
    Probe("prepare_ravdess", "prepare", _OUT | {"root": "{root}/ravdess", "expected_total": 0}
          | {"trim_silence": "true"}, words=("ravdess",)),
    Probe("prepare_librispeech", "prepare", _OUT | {"root": "{root}/librispeech"}
          | {"piece_seconds": 0.2, "min_piece_seconds": 0.1, "parts": "50,50"},
          words=("librispeech",)),
    Probe("prepare_esd", "prepare", _OUT | {"root": "{root}/esd", "complete": "false"}
          | {"labels": "ang,neu"}, words=("esd",)),
    Probe("status", "status", {}, stdin="TSE\tall\t{root}/exp/tse\t\ttse_train\n"
          "SER\t1\t{root}/exp/ser/fold1\t\tser_train\n"),
)  # fmt: skip


def write_inputs(root):
    """Write what no command makes: corpora, configurations, weights of an SSL model, recordings."""
    import tiny_ssl
    from tiny_corpora import write_esd
    from tiny_formatted import voice, write_formatted

    rng = np.random.default_rng(0)

    def utterance(speaker, number, pitch, emotion=None, fold=None):
        samples = voice(rng, pitch, int(rng.integers(5000, 8000)))
        return f"{speaker}-{number}", speaker, "mf"[int(speaker[-1]) % 2], samples, emotion, fold

    emotions = ("ang", "ang", "neu", "neu", "neu")
    write_formatted(
        root / "emo",
        [
            utterance(f"t{s}", n, 100 + 20 * s + 30 * (emotion == "ang"), emotion, "12"[s // 2])
            for s in range(4)
            for n, emotion in enumerate(emotions)
        ],
    )
    write_formatted(
        root / "interferer", [utterance(f"i{s}", n, 150 + 20 * s) for s in range(8) for n in (0,)]
    )
    write_formatted(
        root / "pretrain", [utterance(f"p{s}", n, 90 + 30 * s) for s in range(6) for n in range(2)]
    )
    tiny_ssl.write_weights(root / "ssl.pt")
    for name, config in CONFIGURATIONS.items():
        if config.get("frontend") == "ssl":
            config = config | {"frontend_conf": tiny_ssl.frontend_conf(root / "ssl.pt")}
        place = root / "conf" / ("sweeps" if "sweep" in config else "") / f"{name}.yaml"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(yaml.safe_dump(config))
    (root / "systems").mkdir()
    for name, declaration in SYSTEMS.items():
        (root / "systems" / f"{name}.yaml").write_text(yaml.safe_dump(declaration))
    _write_recordings(root, rng, voice)
    write_esd(root / "esd", ["0011", "0012"])
    for path in (root / "esd").rglob("*.wav"):
        shutil.copy(root / "a.wav", path)


def _write_recordings(root, rng, voice):
    import soundfile

    for name, pitch, length in (("a", 120, 6000), ("b", 150, 7000), ("long", 110, 40000)):
        soundfile.write(root / f"{name}.wav", voice(rng, pitch, length), FS, subtype="PCM_16")
    raw = root / "raw"
    raw.mkdir()
    for number, rate in enumerate((16000, 22050)):
        samples = np.stack([voice(rng, 100 + 20 * number, 12000)] * (1 + number), axis=1)
        soundfile.write(raw / f"{number}.flac", samples, rate)
    for name, values in {
        "wav.scp": [raw / "0.flac", raw / "1.flac"],
        **{"utt2spk": ["r0", "r1"], "utt2emo": LABELS, "utt2fold": ["1", "2"]},
    }.items():
        (raw / name).write_text("".join(f"r{n}-u {v}\n" for n, v in enumerate(values)))
    (raw / "segments").write_text("r0-u r0-u 0.05 0.6\nr1-u r1-u 0.0 0.5\n")
    (raw / "spk2gender").write_text("r0 m\nr1 f\n")
    (raw / "spk2utt").write_text("r0 r0-u\nr1 r1-u\n")
    for actor in (1, 2):
        directory = root / "ravdess" / f"Actor_{actor:02d}"
        directory.mkdir(parents=True)
        for emotion, strength in ((1, 1), (5, 1), (5, 2)):
            name = f"03-01-{emotion:02d}-{strength:02d}-01-01-{actor:02d}.wav"
            soundfile.write(directory / name, voice(rng, 130, 6000), 48000)
    speech = root / "librispeech"
    speech.mkdir()
    lines = [
        f"{r} | {g} | train-clean-100 | 25 | A\n"
        for r, g in zip((19, 20, 21, 22), "FMFM", strict=True)
    ]
    (speech / "SPEAKERS.TXT").write_text("; comment\n" + "".join(lines))
    for reader in (19, 20, 21, 22):
        directory = speech / "train-clean-100" / str(reader) / "7"
        directory.mkdir(parents=True)
        soundfile.write(directory / f"{reader}-7-0000.flac", voice(rng, 130, 8000), FS)
        (directory / f"{reader}-7.trans.txt").touch()


def write_scores(root):
    """Hypotheses of systems, as `recognize` writes them, and their tables."""
    from espnet_tse_ser.files import read_tsv, write_tsv

    rng = np.random.default_rng(1)
    table = read_tsv(root / "table" / "mixtures.tsv")
    signal_columns = ["si_sdr_mix", "si_sdr", "si_sdri", "stoi_mix", "stoi", "wrong_speaker"]
    shutil.copytree(root / "exp" / "tse", root / "curves" / "tse")
    for system in ("hyps/clean", "hyps/noisy", "scores/base/default", "scores/ft/default"):
        for fold in ("1", "2", "1_seed1", "2_seed1"):
            rows = []
            for row in (r for r in table if r["fold"] == fold[0]):
                p = round(float(rng.uniform(0.01, 0.99)), 6)
                values = {"p_ang": f"{p:.6f}", "p_neu": f"{1 - p:.6f}"}
                hypothesis = "ang" if p > 0.5 else "neu"
                rows.append({"id": row["mixture"], "reference": row["emotion"]} | values)
                rows[-1]["hypothesis"] = hypothesis
                if system == "scores/ft/default":
                    values = ("0.25", "0.75", "0.5", "0.5", "0.75", "0")
                    rows[-1] |= dict(zip(signal_columns, values, strict=True))
            columns = ["id", "reference", "hypothesis", "p_ang", "p_neu"]
            columns += signal_columns if system == "scores/ft/default" else []
            write_tsv(root / system / f"fold{fold}" / "hyp.tsv", rows, columns)


def stop_training(probe, root, out):
    """Run a training that is stopped by a signal in its second epoch; call it in a fork.

    Returns:
        the exit status.
    """
    from espnet_tse_ser.errors import run
    from espnet_tse_ser.models import espnet_ser_model, espnet_tse_model, espnet_tse_ser_model

    model = {
        "tse_train": espnet_tse_model.ESPnetTSEModel,
        "ser_train": espnet_ser_model.ESPnetSERModel,
        "tse_ser_train": espnet_tse_ser_model.ESPnetTSESERModel,
    }[probe.command]
    forward = model.forward

    def at_forward(self, *args, **keywords):
        if self.training and (out / "1epoch.pth").exists():
            os.kill(os.getpid(), signal.SIGUSR1)
        return forward(self, *args, **keywords)

    model.forward = at_forward
    return run(load_main(probe.command), probe.argv(root, out))
