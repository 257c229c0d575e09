"""Progress on a terminal and in a log."""

import io
import logging
import sys

from espnet_tse_ser import progress as module
from espnet_tse_ser.progress import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_log_of_a_short_loop(caplog):
    caplog.set_level(logging.INFO)
    assert list(progress("abc", "simulate")) == ["a", "b", "c"]
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("simulate: 3 done in ")


def test_log_of_a_long_loop(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(module, "LOG_SECONDS", 0.0)
    assert list(progress(iter("abc"), "mix", total=3)) == ["a", "b", "c"]
    assert [m.split(",")[0] for m in caplog.messages[:2]] == ["mix: 1 / 3", "mix: 2 / 3"]
    assert "s left" in caplog.messages[0] and len(caplog.messages) == 3


def test_bar_on_a_terminal(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert list(progress([1, 2], "mix")) == [1, 2]
    assert "mix: 100%" in sys.stderr.getvalue() and "2/2" in sys.stderr.getvalue()
    assert caplog.messages == []


def test_nothing_to_do(caplog):
    caplog.set_level(logging.INFO)
    assert list(progress([], "mix")) == []
    assert caplog.messages[0].startswith("mix: 0 done")
