"""Stage 4 as a command: the same bytes for any number of jobs."""

import pytest
from tiny_corpora import pool_options, write_corpora

from espnet_tse_ser.audio.kaldi_dir import read_table
from espnet_tse_ser.bin import mixture_table
from espnet_tse_ser.bin.simulate import main
from espnet_tse_ser.errors import run


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpora")
    corpora = write_corpora(root)
    corpora.table = root / "table"
    mixture_table.main([*pool_options(corpora), "--output_dir", str(corpora.table)])
    return corpora


@pytest.fixture(scope="module")
def rendered(corpora, tmp_path_factory):
    directory = tmp_path_factory.mktemp("mix")
    assert simulate(corpora, directory) == 0
    assert simulate(corpora, directory, "--combine") == 0
    return directory


def simulate(corpora, directory, *options):
    directories = ["--table_dir", str(corpora.table), "--output_dir", str(directory)]
    return run(main, [*pool_options(corpora), *directories, *options])


def contents(directory):
    """Contents of all files, the directory's own name in them replaced."""
    return {
        str(p.relative_to(directory)): p.read_bytes().replace(str(directory).encode(), b"DIR")
        for p in directory.rglob("*")
        if p.is_file()
    }


def test_bytes_do_not_depend_on_the_number_of_jobs(corpora, rendered, tmp_path):
    for job in (2, 3, 1):
        assert simulate(corpora, tmp_path, "--job", str(job), "--nj", "3") == 0
        assert len(list((tmp_path / "audio" / "mix").iterdir())) % 10 == 0
    (tmp_path / ".tmp.1.mixtures.tsv").touch()  # of a job that was killed
    assert simulate(corpora, tmp_path, "--combine", "--nj", "3") == 0
    assert contents(tmp_path) == contents(rendered)
    assert sum(name.endswith(".flac") for name in contents(rendered)) == 90


def test_a_second_run_changes_nothing(corpora, rendered, caplog):
    caplog.set_level("INFO")
    times = {p: p.stat().st_mtime_ns for p in rendered.rglob("*.flac")}
    assert simulate(corpora, rendered, "--job", "1", "--nj", "2") == 0
    assert {p: p.stat().st_mtime_ns for p in rendered.rglob("*.flac")} == times
    assert "0 mixtures rendered, 0 copied, the others were there" in caplog.text


def test_audio_of_another_table_is_not_taken(corpora, rendered, tmp_path, capsys):
    before = contents(rendered)
    other = ["--output_dir", str(tmp_path), "--seed", "9"]
    mixture_table.main([*pool_options(corpora), *other])
    for options in ([], ["--combine"]):
        arguments = ["--table_dir", str(tmp_path), *options]
        assert simulate(corpora, rendered, *arguments) == 2
        message = f"error: {rendered} was rendered from another mixture table; remove it"
        assert message in capsys.readouterr().err
    assert contents(rendered) == before


def test_combining_too_early(corpora, tmp_path, capsys):
    assert simulate(corpora, tmp_path, "--job", "1", "--nj", "2") == 0
    assert simulate(corpora, tmp_path, "--combine", "--nj", "2") == 2
    assert "t1f-1.flac: not rendered; run stage 4 (simulate) again" in capsys.readouterr().err
    assert not (tmp_path / "wav.scp").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        (["--job", "4", "--nj", "3"], "--job 4 --nj 3: the job must lie in 1 to nj"),
        (["--fs", "8000"], "rate is 16000 Hz, 8000 Hz is needed"),
        (["--table_dir", "/nowhere"], "/nowhere/mixtures.tsv: no such table"),
        (["--sources", "/nowhere"], "/nowhere/wav.scp: no such file"),
    ],
)
def test_wrong_values(corpora, tmp_path, options, message, capsys):
    assert simulate(corpora, tmp_path, *options) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.flac"))


def test_other_corpora_than_the_tables(corpora, tmp_path, capsys):
    assert simulate(corpora, tmp_path, "--sources", str(corpora.pretrain)) == 2
    assert "run stages 1 and 2 again" in capsys.readouterr().err


def test_unknown_options(corpora, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        simulate(corpora, tmp_path, "--jobs", "3")
    assert caught.value.code == 2 and "unrecognized arguments" in capsys.readouterr().err


def test_tables_of_the_command(corpora, rendered):
    assert len(read_table(rendered / "wav.scp")) == 30
    assert set(read_table(rendered / "utt2fold").values()) == {"1", "2", "3"}
