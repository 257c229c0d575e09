"""The set of files on disk: made once, watched, changed for a case and put back."""

import contextlib
import gc
import importlib
import io
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import fuzz_world
from fuzz_process import run_forked
from fuzz_verdict import contents, insanities, is_dated

import espnet_tse_ser.bin  # noqa: F401  (first of all: it makes imports fast)
from espnet_tse_ser.errors import run


@dataclass(frozen=True)
class Known:
    """What a probe does with the files as they are.

    ``reads``: files that it opens, relative to the root. ``left``: name -> `contents` of the files
    that it leaves, those that are the same each time. ``out``: what it prints.
    """

    reads: tuple
    left: dict
    names: frozenset
    out: str | None
    cpu: float


class FileSet:
    """The files of `fuzz_world` below ``root``, and what its probes do with them."""

    def __init__(self, root):
        self.root, self.out = root / "set", root / "set" / "out"
        self.scratch, self.cwd = root / "scratch", root / "cwd"
        self.marker = root / "marker"  # what would show that a file's code was run
        self.known = {}
        for directory in (self.root, self.scratch, self.cwd, self.out):
            directory.mkdir()

    def make(self):
        """Write all files by the commands themselves."""
        fuzz_world.write_inputs(self.root)
        warm_up()
        for probe in fuzz_world.MAKING:
            place = self.root / fuzz_world.PLACES[probe.name]
            self._must(probe, place)
            for path in place.rglob("*.pth"):  # a case changes one file, not those linked to it
                if path.is_symlink():
                    data = path.read_bytes()
                    path.unlink()
                    path.write_bytes(data)
            for name in ("exp/tse", "exp/ser/fold1", "exp/joint/fold1"):
                if fuzz_world.PLACES[probe.name] == name:
                    kind = name.split("/")[1]
                    stopped = self.root / "stopped" / kind
                    shutil.copytree(place, stopped)
                    command = fuzz_world.Probe(
                        probe.name, probe.command, probe.options | {"max_epoch": 2}
                    )
                    ending = run_forked(
                        lambda c=command, s=stopped: fuzz_world.stop_training(c, self.root, s),
                        self.scratch,
                        self.cwd,
                    )
                    assert ending.status == 75, ending.err
        fuzz_world.write_scores(self.root)
        score = next(p for p in fuzz_world.PROBES if p.name == "score")
        options = score.options | {"scores_dir": "{root}/scores"}
        self._must(fuzz_world.Probe("score", "score", options), self.out)
        for test in ("snr_0", "talkers_3"):
            for system in ("base", "ft"):
                target = self.root / "sweeps" / test / system / "default"
                target.mkdir(parents=True)
                shutil.copy(self.root / "scores" / system / "default" / "score_utt.tsv", target)
        formatting = next(p for p in fuzz_world.PROBES if p.name == "format_audio")
        self._must(formatting, self.root / "formatting")
        self._clear_out()
        self.files = self._snapshot()

    def know(self, probes):
        """Find out what probes do with the files as they are."""
        modules = self.scratch / "modules"
        for probe in probes:
            opened = self.scratch / "opened"
            self.prepare(probe)
            ending = self.run(probe, watch=(opened, modules))
            assert ending.status == 0, f"{probe.name}: {ending.err}"
            left = contents(self.out)
            assert not insanities(self.out), insanities(self.out)
            self.known[probe.name] = Known(
                self._read_by(probe, opened.read_text().splitlines()),
                {name: value for name, value in left.items() if not is_dated(name)},
                frozenset(left),
                ending.out if "seconds" not in ending.out or probe.command == "infer" else None,
                ending.cpu,
            )
            for name in modules.read_text().split():  # so that no other fork has to
                with contextlib.suppress(ImportError):
                    importlib.import_module(name)
        gc.collect()
        gc.freeze()

    def _read_by(self, probe, opened):
        """Those of the files that were opened which the probe has found, not made."""
        copies = {
            f"out/{path.relative_to(self.root / source)}"
            if name == "."
            else f"out/{name}/{path.relative_to(self.root / source)}"
            for source, name in probe.before
            for path in (self.root / source).rglob("*")
            if path.is_file()
        }
        names = {n for n in opened if n in copies or n[:4] != "out/" and (self.root / n).is_file()}
        return tuple(sorted(names))

    def run(self, probe, argv=None, stdin=None, environment=None, watch=None):
        """Run a probe in a fork: its `Ending`. What it leaves stays in `out`."""
        argv = probe.argv(self.root, self.out) if argv is None else argv
        main = fuzz_world.load_main(probe.command)

        def function():
            os.environ.update(environment or {})
            if watch is None:
                return run(main, argv)
            before = {*sys.modules}
            _watch(self.root, watch[0])
            status = run(main, argv)
            watch[1].write_text(" ".join(n for n in sys.modules if n not in before))
            return status

        stdin = fuzz_world.fill(probe.stdin if stdin is None else stdin, self.root, self.out)
        return run_forked(function, self.scratch, self.cwd, stdin)

    def prepare(self, probe):
        """Copy what a probe finds in its output directory."""
        self._clear_out()
        for source, name in probe.before:
            shutil.copytree(self.root / source, self.out / name, dirs_exist_ok=True)

    @contextlib.contextmanager
    def changed(self, changes):
        """Put other contents into files, and the old ones back.

        Args:
            changes: path relative to the root -> bytes, None to remove it, or a function that is
                called with the path and makes something there.
        """
        kept = {}
        try:
            for name, value in changes.items():
                path = self.root / name
                if name[:4] != "out/" and path.is_file():
                    kept[path] = (path.read_bytes(), path.stat())
                if path.exists() and (value is None or callable(value)):
                    path.unlink()
                if callable(value):
                    value(path)
                elif value is not None:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(value)
            self.before = self._snapshot()
            yield
        finally:
            for name in changes:
                path = self.root / name
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            for path, (data, stat) in kept.items():
                path.write_bytes(data)
                os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    def strays(self):
        """Files outside of ``out`` that are not what they were; they are removed."""
        after = self._snapshot()
        names = sorted(n for n in after.keys() | self.before.keys()
                       if after.get(n) != self.before.get(n))  # fmt: skip
        for name in names:
            path = self.root / name
            if name in after and name not in self.before:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        self.marker.unlink(missing_ok=True)
        return names

    def _must(self, probe, place):
        place.mkdir(parents=True, exist_ok=True)
        main = fuzz_world.load_main(probe.command)
        argv = probe.argv(self.root, place)
        ending = run_forked(lambda: run(main, argv), self.scratch, self.cwd)
        assert ending.status == 0, f"{probe.name}: {ending.err}"

    def _clear_out(self):
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir(exist_ok=True)

    def _snapshot(self):
        found = {}
        pending = [(self.root.parent, "..")]
        while pending:
            directory, name = pending.pop()
            for entry in os.scandir(directory):
                path = Path(entry.path)
                if path in (self.out, self.scratch):
                    continue
                inside = path.is_relative_to(self.root)
                label = str(path.relative_to(self.root)) if inside else f"../{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    found[label] = "directory"
                    pending.append((path, label))
                else:
                    stat = entry.stat(follow_symlinks=False)
                    found[label] = (stat.st_size, stat.st_mtime_ns, stat.st_mode)
        return found


def warm_up():
    """Import what the commands import and compile what they compile, so that no fork has to."""
    import matplotlib.pyplot
    import torch
    import torchaudio  # noqa: F401

    from espnet_tse_ser.models.build_tse import build_extraction_model
    from espnet_tse_ser.tasks.ser import SERTask  # noqa: F401
    from espnet_tse_ser.tasks.tse import TSETask  # noqa: F401
    from espnet_tse_ser.tasks.tse_ser import TSESERTask  # noqa: F401

    torch.set_num_threads(1)
    model = build_extraction_model(fuzz_world.CONFIGURATIONS["tse"])
    speech, lengths = torch.randn(2, 3200), torch.tensor([3200, 3000])
    for _ in range(2):
        model.extract(speech, lengths, speech, lengths)[0].sum().backward()
        model.eval()
    for probe in fuzz_world.PROBES:
        fuzz_world.load_main(probe.command)
    figure, axes = matplotlib.pyplot.subplots()
    axes.set_title("title")
    figure.savefig(io.BytesIO())
    gc.collect()
    gc.freeze()


def _watch(root, path):
    """Note the files below ``root`` that this process opens, in a file."""
    stream = open(path, "w", encoding="utf-8")
    prefix = f"{root}/"

    def note(event, args):
        if event == "open" and isinstance(args[0], (str, bytes, os.PathLike)):
            name = os.fsdecode(args[0])
            if name.startswith(prefix):
                stream.write(name[len(prefix) :] + "\n")
                stream.flush()

    sys.addaudithook(note)
