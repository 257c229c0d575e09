"""What a step has done, told by its marks; the first was written by shell scripts, others by us."""

import os
import subprocess
import time

import pytest

from espnet_tse_ser.jobs.marks import Marks, checksum, read_record

RECORD = "ser_train\n--config conf/a.yaml\n12 3 conf/a.yaml"


@pytest.fixture
def marks(tmp_path, monkeypatch):
    """Of the step "n" in a directory with an odd name, below the one where we are."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a+b [c]").mkdir()
    return Marks("a+b [c]", "n")


def write(marks, **texts):
    for kind, text in texts.items():
        with open(marks.path(kind), "w") as stream:
            stream.write(text)


@pytest.mark.parametrize("data", [b"", b"a", b"\0", bytes(range(256)) * 300, b"x" * 70000])
def test_checksums_are_those_of_cksum(tmp_path, data):
    path = tmp_path / "two words"
    path.write_bytes(data)
    assert f"{checksum(path)}\n" == subprocess.check_output(["cksum", path], text=True)


def test_paths():
    assert Marks("exp/x", "pack1").path("done") == "exp/x/.done.pack1"
    assert Marks("exp/x").path("begun") == "exp/x/.begun"


def test_from_new_to_done(marks):
    assert marks.state(RECORD) == ("new", None)
    marks.begin(RECORD)
    assert marks.state(RECORD) == ("begun", marks.path("begun"))
    os.mkdir(f"{marks.directory}/log")
    assert marks.state(RECORD + " more") == ("new", None)  # it has left nothing
    with open(f"{marks.directory}/a.tsv", "w"):
        assert marks.state(RECORD + " more") == ("other", marks.path("begun"))
    os.rmdir(f"{marks.directory}/log"), os.unlink(f"{marks.directory}/a.tsv")
    marks.finish()
    assert marks.state(RECORD) == ("done", marks.path("done"))
    assert marks.state("") == ("other", marks.path("done"))
    assert sorted(os.listdir(marks.directory)) == [".done.n"]
    marks.begin(RECORD)
    assert marks.state(RECORD)[0] == "begun" and not os.path.exists(marks.path("done"))


@pytest.mark.parametrize("kind", ["done", "begun"])
def test_marks_of_another_record_count_before_what_is_gone(marks, kind):
    write(marks, **{kind: "other\n"}, wrote="x\n")
    with open(f"{marks.directory}/y", "w"):
        pass
    assert marks.state(RECORD) == ("other", marks.path(kind))


def test_each_run_of_a_training_has_another_mark_and_the_same_record(marks):
    texts = set()
    for _ in range(2):
        marks.begin(RECORD)
        marks.finish("", is_training=True)
        assert read_record(marks.path("done")) == RECORD and marks.state(RECORD)[0] == "done"
        texts.add(open(marks.path("done")).read())
    assert len(texts) == 2 and all(t.startswith(f"{RECORD}\nrun: ") for t in texts)


def test_marks_of_the_former_shell_scripts(marks):
    write(marks, done=f"{RECORD}\nrun: 1700000000.1234\nrun: 1700000009.1\n", wrote="x\n")
    assert marks.state(RECORD) == ("gone", "a+b [c]/x")
    write(marks, x="")  # ./.x.n
    os.rename(marks.path("x"), "a+b [c]/x")
    assert marks.state(RECORD) == ("gone", "a+b [c]/x")
    with open("a+b [c]/x", "w") as stream:
        stream.write("x")
    assert marks.state(RECORD) == ("done", marks.path("done"))


def test_words_that_are_not_utf_8(marks):
    record = os.fsdecode(b"pack\n--config caf\xe9")
    marks.begin(record)
    assert marks.state(record)[0] == "begun"
    assert open(marks.path("begun"), "rb").read() == b"pack\n--config caf\xe9\n"


def test_what_is_written(marks, tmp_path):
    """What is there and not empty, sorted by bytes; its names are relative."""
    directory = tmp_path / marks.directory
    (directory / "sub").mkdir()
    for name in ("z.tsv", "x.scp", "two words.tsv", "ä.tsv", "Z.tsv", "sub/y", ".hidden.tsv"):
        (directory / name).write_text("k /v\n")
    (directory / "link.tsv").symlink_to("z.tsv")
    (directory / "broken.tsv").symlink_to("nothing.tsv")
    (directory / "empty").touch()
    marks.begin(RECORD)
    marks.finish("x.scp *.tsv x.* sub/* empty gone sub")
    assert (directory / ".wrote.n").read_text().splitlines() == [
        *("Z.tsv", "link.tsv", "sub/y", "two words.tsv", "x.scp", "z.tsv", "ä.tsv")
    ]
    assert marks.state(RECORD)[0] == "done"
    (directory / "two words.tsv").write_text("")
    assert marks.state(RECORD) == ("gone", "a+b [c]/two words.tsv")
    (directory / "link.tsv").unlink()
    assert marks.state(RECORD) == ("gone", "a+b [c]/link.tsv")
    marks.begin(RECORD)
    assert not (directory / ".wrote.n").exists()
    marks.finish("none")
    assert (directory / ".wrote.n").read_text() == "" and marks.state(RECORD)[0] == "done"


def test_what_lists_name_of_the_directory_has_to_be_there(marks, tmp_path):
    directory = tmp_path / marks.directory
    for name in ("a b.flac", "c.ark"):
        (directory / name).write_text("x")
    lines = [f"a {directory}/a b.flac", "b /corpora/b.wav", f"c {directory}/c.ark:17", "d"]
    (directory / "wav.scp").write_text("\n".join([*lines, ""]))
    (directory / "utt2spk").write_text(f"a {directory}/gone\n")  # no list
    marks.begin(RECORD)
    marks.finish("wav.scp utt2spk")
    assert marks.first_gone() is None
    for name in ("a b.flac", "c.ark"):
        os.rename(directory / name, directory / "elsewhere")
        assert marks.first_gone() == f"{directory}/{name}"
        os.rename(directory / "elsewhere", directory / name)


def test_a_look_at_thousands_of_files_takes_no_time(marks, tmp_path):
    directory = tmp_path / marks.directory
    write(marks, wrote="wav.scp\nspk1.scp\n")
    paths = [directory / f"{n:05d} x.flac" for n in range(5000)]
    for path in paths:
        path.write_text("x")
    for name in ("wav.scp", "spk1.scp"):
        (directory / name).write_text("".join(f"{p.stem[:5]} {p}\n" for p in paths))
    before = time.process_time()
    assert marks.first_gone() is None
    assert time.process_time() - before < 0.2
    paths[4321].unlink()
    assert marks.first_gone() == str(paths[4321])
