"""Stage 3: every planted fault is named."""

import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from changed_mixtures import change
from tiny_corpora import FS, edit_table, pool_options, speech, write_corpora

from espnet_tse_ser.audio.kaldi_dir import read_table, write_table
from espnet_tse_ser.bin import check_data, mixture_table
from espnet_tse_ser.errors import run
from espnet_tse_ser.mixtures.table import read_mixtures, write_mixtures


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Corpora and a mixture table without a fault."""
    root = tmp_path_factory.mktemp("sound")
    corpora = write_corpora(root)
    mixture_table.main([*pool_options(corpora), "--output_dir", str(root / "table")])
    return root


@pytest.fixture
def data(sound, tmp_path):
    """A copy to spoil; its audio is that of the original."""
    names = ("emo", "interferer", "pretrain", "table")
    return SimpleNamespace(
        **{name: shutil.copytree(sound / name, tmp_path / name) for name in names}, root=tmp_path
    )


def options(data):
    pretrain = ["--pretrain", str(data.pretrain)]
    return [*pool_options(data), *pretrain, "--table_dir", str(data.table)]


def check(data, *further):
    return run(check_data.main, [*options(data), *further])


def edit_mixture(data, uid, **changes):
    path = data.table / "mixtures.tsv"
    mixtures = read_mixtures(path)
    assert uid in {m.mixture for m in mixtures}
    write_mixtures(path, [change(m, **changes) if m.mixture == uid else m for m in mixtures])


def mixture(data, uid):
    return {m.mixture: m for m in read_mixtures(data.table / "mixtures.tsv")}[uid]


def add_to(path, utt):
    path.write_text(path.read_text() + f"{utt}\n")


def among_targets(data):
    """Draw the mixture table anew with the targets interfering with each other."""
    data.interferer = data.emo
    assert run(mixture_table.main, [*pool_options(data), "--output_dir", str(data.table)]) == 0


def test_sound_data(data, caplog):
    caplog.set_level("INFO")
    assert check(data) == 0
    assert "30 mixtures in 3 folds; 30 targets, 24 interferers, 12 pretrain: no violation" in (
        caplog.text
    )


def test_what_dev_is_and_what_is_never_tested(data, caplog):
    caplog.set_level("INFO")
    assert check(data, "--folds", "1 2 3") == 0
    dev = "train 10, dev 10, test 10; dev: by speaker, 50.0 % of the training side"
    assert all(f"fold {fold}: {dev}" in caplog.text for fold in "123")
    assert "never tested" not in caplog.text
    caplog.clear()
    assert check(data, "--folds", "2") == 0
    assert "20 utterances of folds 1, 3 are never tested: --folds is 2" in caplog.text
    assert f"fold 2: {dev}" in caplog.text and f"fold 1: {dev}" not in caplog.text


def test_what_dev_is_of_speakers(data, caplog):
    caplog.set_level("INFO")
    scheme = ("--scheme", "loso_speaker")
    shutil.rmtree(data.table)
    draw = [*pool_options(data), "--output_dir", str(data.table), *scheme]
    assert run(mixture_table.main, draw) == 0 and check(data, *scheme, "--folds", "1") == 0
    assert "test 5; dev: the rest of the test speaker's group, 20.0 % of the tra" in caplog.text


def test_targets_may_interfere_with_each_other(data, caplog):
    caplog.set_level("INFO")
    among_targets(data)
    assert check(data) == 0
    assert "30 mixtures in 3 folds; 30 targets, 12 pretrain: no violation" in caplog.text


def speaker_in_two_folds(data):
    """The corpus has one speaker in two folds, and the mixture table agrees with it."""
    edit_table(data.emo / "utt2fold", **{"t1m-0": "2"})
    edit_mixture(data, "t1m-0", fold="2")
    return ["target 't1m-1': speaker 't1m' is in fold '1' here and in fold '2' before; correct"]


def speaker_in_train_list(data):
    add_to(data.table / "splits/fold1/train.lst", "t1m-0")
    return ["fold 1: 't1m-0' is listed 2 times", "'t1m-0' of fold 1 is in train"]


def dev_from_test(data):
    path = data.table / "splits/fold1/test.lst"
    path.write_text(path.read_text().replace("t1m-0\n", ""))
    add_to(data.table / "splits/fold1/dev.lst", "t1m-0")
    return ["fold 1: 't1m-0' of fold 1 is in dev", "target speaker 't1m' of dev mixture 't1m-0'"]


def enrollment_is_target(data):
    edit_mixture(data, "t1m-2", enrollment=("t1m-2",))
    return ["mixture 't1m-2': the enrollment is the target utterance"]


def emotional_enrollment(data):
    edit_mixture(data, "t1m-2", enrollment=("t1m-0",))
    return ["mixture 't1m-2': enrollment 't1m-0' is 'ang', not 'neu'"]


def enrollment_of_another(data):
    edit_mixture(data, "t1m-0", enrollment=("t2m-2",))
    return ["mixture 't1m-0': enrollment 't2m-2' is of speaker 't2m', not of the target 't1m'"]


def missing_enrollment(data):
    path = data.table / "mixtures.tsv"
    (enrollment,) = mixture(data, "t1m-0").enrollment
    path.write_text(path.read_text().replace(f"\t{enrollment}\t1\t", "\t\t1\t"))
    return ["mixture 't1m-0': has no enrollment, but others have one; run stage 2 again"]


def dropped_enrollment(data):
    """An utterance is taken out of the corpus after the mixture table was drawn."""
    (gone,) = mixture(data, "t1m-0").enrollment
    for name in ("wav.scp", "utt2spk", "utt2emo", "utt2fold", "utt2lufs", "utt2num_samples"):
        table = read_table(data.emo / name)
        del table[gone]
        write_table(data.emo / name, table)
    return [f"mixture 't1m-0': unknown enrollment '{gone}'", f"unknown target '{gone}'"]


def shared_interferer(data):
    other = mixture(data, "t2m-0")
    edit_mixture(
        data,
        "t1m-0",
        utt=other.sources[0].utt,
        group=other.sources[0].group,
    )
    speaker = other.sources[0].group
    return [f"fold 1: interferer speaker '{speaker}' of", "is also tested", "fold 2"]


def hidden_shared_interferer(data):
    """The column of speakers still tells the old one."""
    other = mixture(data, "t2m-0")
    edit_mixture(data, "t1m-0", utt=other.sources[0].utt)
    speaker = other.sources[0].group
    return ["mixture 't1m-0': interferer 'i", ": speaker is 'i", f"but it has '{speaker}'"]


def interferer_is_target_speaker(data):
    """A target speaker's name is given to an interferer."""
    edit_table(data.interferer / "utt2spk", **{"im0-0": "t1m"})
    edit_table(data.interferer / "spk2gender", t1m="m")
    return ["speaker 't1m' is in targets and in interferers"]


def own_interferer(data):
    among_targets(data)
    edit_mixture(
        data,
        "t1m-0",
        utt="t1m-1",
        group="t1m",
        gender_of_source="m",
        emotion_of_source="hap",
        gender_state="same",
    )
    return [
        "1 violation(s)",
        "mixture 't1m-0': interferer 't1m-1' is of the target's own speaker 't1m'",
    ]


def interferer_of_another_fold(data):
    """Targets interfere with each other, but one of them across the line of a fold."""
    among_targets(data)
    edit_mixture(
        data,
        "t1m-0",
        utt="t2f-0",
        group="t2f",
        gender_of_source="f",
        emotion_of_source="ang",
    )
    return ["fold 1: target speaker 't2f' of", "fold 2: interferer speaker 't2f' of"]


def copy_of_the_targets(data):
    """Another directory with the target speakers is not the targets themselves."""
    among_targets(data)
    data.interferer = shutil.copytree(data.emo, data.root / "copy")
    return ["speaker 't1f' is in targets and in interferers; keep one of them"]


def pretraining_is_the_targets(data):
    among_targets(data)
    data.pretrain = data.emo
    return ["speaker 't1f' is in targets and in pretrain; keep one of them"]


def wrong_gender_state(data):
    state = mixture(data, "t1m-0").gender_state
    other = {"same": "different", "different": "same"}[state]
    edit_mixture(data, "t1m-0", gender_state=other)
    return [f"mixture 't1m-0': gender_state is '{other}', but the genders are '{state}'"]


def unknown_interferer(data):
    edit_mixture(data, "t1m-0", utt="x-1")
    return ["mixture 't1m-0': unknown interferer 'x-1'"]


def pretraining_speaker_in_test(data):
    edit_table(data.pretrain / "utt2spk", **{"pm0-0": "t1m"})
    edit_table(data.pretrain / "spk2gender", t1m="m")
    return ["speaker 't1m' is in targets and in pretrain"]


def pretraining_speaker_interferes(data):
    edit_table(data.pretrain / "utt2spk", **{"pm0-0": "im1"})
    edit_table(data.pretrain / "spk2gender", im1="m")
    return ["speaker 'im1' is in interferers and in pretrain"]


def label_typo(data):
    edit_table(data.emo / "utt2emo", **{"t1m-0": "agn"})
    return ["target 't1m-0': unknown emotion 'agn', known: ang hap neu sad"]


def duplicate_id(data):
    path = data.emo / "wav.scp"
    first = path.read_text().splitlines()[0]
    path.write_text(f"{first}\n{path.read_text()}")
    return [f"{path}: line 2: duplicate id 't1f-0'"]


def duplicate_mixture(data):
    path = data.table / "mixtures.tsv"
    add_to(path, path.read_text().splitlines()[-1])
    return ["mixtures.tsv: line 32: duplicate mixture id 't3m-4'"]


def missing_split(data):
    (data.table / "splits/fold2/dev.lst").unlink()
    return ["fold2/dev.lst: no such list of ids; run stage 2"]


def incomplete_split(data):
    path = data.table / "splits/fold2/test.lst"
    path.write_text(path.read_text().replace("t2f-0\n", ""))
    return ["fold 2: mixture 't2f-0' is in none of train, dev and test"]


def same_file_of_another_speaker(data):
    edit_table(data.emo / "wav.scp", **{"t1f-0": read_table(data.emo / "wav.scp")["t1m-0"]})
    lengths = read_table(data.emo / "utt2num_samples")
    edit_table(data.emo / "utt2num_samples", **{"t1f-0": lengths["t1m-0"]})
    return [
        "1 violation(s)",
        "targets 't1m-0' of speaker 't1m' and targets 't1f-0' of speaker 't1f' are the same audio",
    ]


def same_audio_of_another_speaker(data):
    """A copy in another format, in another set."""
    samples, rate = soundfile.read(read_table(data.emo / "wav.scp")["t1m-0"], dtype="int16")
    soundfile.write(data.root / "copy.flac", samples, rate)
    edit_table(data.pretrain / "wav.scp", **{"pm0-0": data.root / "copy.flac"})
    edit_table(data.pretrain / "utt2num_samples", **{"pm0-0": len(samples)})
    return [
        "1 violation(s)",
        "pretrain 'pm0-0' of speaker 'pm0' and targets 't1m-0' of speaker 't1m' are the same audio",
        "copy.flac",
    ]


def id_that_is_a_path(data):
    path = data.interferer / "wav.scp"
    path.write_text(path.read_text().replace("im0-0 ", "im0/../../0 "))
    return [f"{path}: line 13: 'im0/../../0' cannot be an id: it has a '/' in it"]


def speaker_that_is_a_path(data):
    path = data.interferer / "utt2spk"
    path.write_text(path.read_text().replace("im0-0 im0", "im0-0 ../im0"))
    return [f"{path}: line 13: 'im0-0': '../im0' cannot be an id: it begins with a dot"]


def comma_in_an_id(data):
    path = data.emo / "wav.scp"
    path.write_text(path.read_text().replace("t1f-0 ", "t1f,0 "))
    return [f"{path}: line 1: 't1f,0' cannot be an id: it has a comma in it, which separates"]


def fold_with_a_leading_zero(data):
    path = data.emo / "utt2fold"
    path.write_text(path.read_text().replace(" 1\n", " 01\n"))
    return [f"{path}: line 1: 't1f-0': '01' cannot be a fold: it has to be a whole number"]


def negative_length(data):
    path = data.pretrain / "utt2num_samples"
    first, *others = path.read_text().splitlines()
    path.write_text("\n".join([f"{first.split()[0]} -5", *others]))
    return [f"{path}: line 1: 'pf0-0': expected a number of samples, got '-5'; correct it"]


FAULTS = [
    same_file_of_another_speaker,
    same_audio_of_another_speaker,
    id_that_is_a_path,
    speaker_that_is_a_path,
    comma_in_an_id,
    fold_with_a_leading_zero,
    negative_length,
    speaker_in_two_folds,
    speaker_in_train_list,
    dev_from_test,
    enrollment_is_target,
    emotional_enrollment,
    enrollment_of_another,
    missing_enrollment,
    dropped_enrollment,
    shared_interferer,
    hidden_shared_interferer,
    interferer_is_target_speaker,
    own_interferer,
    interferer_of_another_fold,
    copy_of_the_targets,
    pretraining_is_the_targets,
    wrong_gender_state,
    unknown_interferer,
    pretraining_speaker_in_test,
    pretraining_speaker_interferes,
    label_typo,
    duplicate_id,
    duplicate_mixture,
    missing_split,
    incomplete_split,
]


@pytest.mark.parametrize("plant", FAULTS, ids=lambda f: f.__name__)
def test_planted_faults_are_named(data, plant, capsys):
    messages = plant(data)
    capsys.readouterr()
    assert check(data) == 2
    error = capsys.readouterr().err
    assert "error: " in error and "Traceback" not in error
    for message in messages:
        assert message in error


# What would make results wrong without a word.
LEAKS = [
    None,
    speaker_in_two_folds,
    speaker_in_train_list,
    enrollment_is_target,
    emotional_enrollment,
    enrollment_of_another,
    shared_interferer,
    own_interferer,
    pretraining_speaker_in_test,
    label_typo,
]


@pytest.mark.parametrize("plant", LEAKS, ids=lambda f: f.__name__ if f else "nothing")
def test_planted_faults_end_stage_3_as_a_user_runs_it(data, plant):
    """In a process of its own, as ``tse_ser.sh`` runs it; what is not spoiled passes."""
    messages = plant(data) if plant else []
    command = [sys.executable, "-m", "espnet_tse_ser.bin.check_data", *options(data)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == (2 if plant else 0), result.stderr
    assert ("no violation" in result.stderr) == (plant is None)
    assert "Traceback" not in result.stderr
    for message in messages:
        assert message in result.stderr


def test_one_speaker_may_have_the_same_audio_twice(data):
    """RAVDESS has two such files."""
    edit_table(data.emo / "wav.scp", **{"t1m-1": read_table(data.emo / "wav.scp")["t1m-0"]})
    lengths = read_table(data.emo / "utt2num_samples")
    edit_table(data.emo / "utt2num_samples", **{"t1m-1": lengths["t1m-0"]})
    assert check(data) == 0


def samples(num_samples=FS):
    return speech(np.random.default_rng(0), num_samples)


def with_nan():
    return np.where(np.arange(FS) == 7, np.nan, samples())


AUDIO_FAULTS = {
    "missing": (lambda p: None, "no such audio file"),
    "unreadable": (lambda p: p.write_bytes(b"no audio"), "cannot be read as audio"),
    "empty file": (lambda p: p.write_bytes(b""), "is empty; fetch it again"),
    "no samples": (lambda p: soundfile.write(p, np.zeros(0), FS), "holds no samples"),
    "nan": (lambda p: soundfile.write(p, with_nan(), FS, "FLOAT"), "sample 7 is NaN"),
    "silent": (lambda p: soundfile.write(p, np.zeros(FS), FS), "is silent"),
    "stereo": (lambda p: soundfile.write(p, np.stack([samples()] * 2, 1), FS), "has 2 channels"),
    "wrong rate": (lambda p: soundfile.write(p, samples(), 8000), "rate is 8000 Hz, 16000 Hz is"),
    "too short": (lambda p: soundfile.write(p, samples(1599), FS), "1599 samples .* are too short"),
    "other length": (lambda p: soundfile.write(p, samples(5000), FS), "has 5000 samples, utt2num"),
}


@pytest.mark.parametrize("fault", AUDIO_FAULTS)
def test_bad_audio_is_named(data, fault, capsys):
    write, message = AUDIO_FAULTS[fault]
    places = {"emo": ("targets", "t1m-0"), "interferer": ("interferers", "im0-0")}
    places |= {"pretrain": ("pretrain", "pm0-0")}
    path = data.root / "bad.wav"
    write(path)
    for directory, (_, utt) in places.items():
        edit_table(getattr(data, directory) / "wav.scp", **{utt: str(path)})
    assert check(data) == 2
    error = capsys.readouterr().err
    assert "error: 3 violation(s) in the data:" in error
    for label, utt in places.values():
        assert re.search(f"{label} '{utt}': {path}:? {message}", error)


def test_all_violations_are_reported_together(data, capsys):
    label_typo(data)
    emotional_enrollment(data)
    pretraining_speaker_in_test(data)
    assert check(data) == 2
    error = capsys.readouterr().err
    # the typo also contradicts the mixture table and spoils the enrollment's label
    assert "violation(s) in the data:" in error
    for message in ("'agn'", "mixture 't1m-2'", "speaker 't1m'"):
        assert message in error


@pytest.mark.parametrize(
    "options, message",
    [
        (["--labels", "ang hap neu"], "unknown emotion 'sad', known: ang hap neu"),
        (["--neutral", "sad"], "is 'neu', not 'sad'"),
        (["--fs", "8000"], "rate is 16000 Hz, 8000 Hz is needed"),
        (["--pretrain", "/nowhere"], "/nowhere/wav.scp: no such file"),
        (["--table_dir", "/nowhere"], "/nowhere/mixtures.tsv: no such table"),
    ],
)
def test_wrong_values(data, options, message, capsys):
    assert check(data, *options) == 2
    assert message in capsys.readouterr().err


def test_many_violations_are_cut_short(data, capsys):
    assert check(data, "--fs", "8000") == 2
    error = capsys.readouterr().err
    assert "error: 66 violation(s) in the data:" in error and "... and 46 more" in error


def test_unknown_options(data, capsys):
    with pytest.raises(SystemExit) as caught:
        check(data, "--label", "ang", "--strict")
    assert caught.value.code == 2 and "unrecognized arguments" in capsys.readouterr().err
