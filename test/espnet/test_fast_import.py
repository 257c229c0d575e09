"""Modules wait for their first use; after it they are what they would be without."""

import functools
import importlib
import sys
import types

import pytest
import typeguard

from espnet_tse_ser.espnet import fast_import
from espnet_tse_ser.espnet.fast_import import SWITCH

SLOW = """
import sys
sys.executed.append(__name__)
VALUE = 3
class Thing:
    pass
def double(value):
    return 2 * value
"""

DYNAMO = """
def disable(function, recursive, wrapping):
    return lambda *args, **kw: ("disabled", recursive, wrapping, function(*args, **kw))
def graph_break():
    return "broken"
"""


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Modules that can be put off; the list of those that have been executed."""
    (tmp_path / "slow_one.py").write_text(SLOW)
    (tmp_path / "slow_pack").mkdir()
    (tmp_path / "slow_pack/__init__.py").write_text(SLOW + "import slow_pack.part\n")
    for name in ("part", "further"):
        (tmp_path / f"slow_pack/{name}.py").write_text(SLOW + "from slow_pack import VALUE\n")
    (tmp_path / "slow_broken.py").write_text(SLOW + "import no_such_module\n")
    (tmp_path / "dynamo.py").write_text(SLOW + DYNAMO)
    (tmp_path / "taker.py").write_text("from slow_one import double\n")
    monkeypatch.syspath_prepend(tmp_path)
    names = ["slow_one", "slow_pack", "slow_broken", "slow_missing"]
    put_off = {name: ["double"] for name in names}
    monkeypatch.setattr(fast_import, "PUT_OFF", put_off)
    monkeypatch.setattr(sys, "executed", [], raising=False)
    monkeypatch.setattr(sys, "meta_path", [f for f in sys.meta_path if not _is_ours(f)])
    monkeypatch.delenv(SWITCH, raising=False)
    fast_import.install()
    yield sys.executed
    for name in [*names, "slow_pack.part", "slow_pack.further", "taker", "dynamo"]:
        sys.modules.pop(name, None)


def _is_ours(finder):
    return type(finder).__module__ == fast_import.__name__


def test_a_module_is_executed_when_something_of_it_is_used(modules):
    slow_one = importlib.import_module("slow_one")
    assert modules == []
    assert slow_one.VALUE == 3
    assert modules == ["slow_one"]
    assert type(slow_one) is types.ModuleType
    assert sys.modules["slow_one"] is slow_one
    assert importlib.reload(slow_one).double(4) == 8


def test_a_function_of_it_can_be_taken_without(modules):
    taker = importlib.import_module("taker")
    assert modules == []
    assert taker.double(4) == 8
    assert taker.double(value=5) == 10
    assert modules == ["slow_one"]


def test_to_take_anything_else_executes_it_at_once(modules):
    from slow_one import Thing

    assert modules == ["slow_one"]
    assert isinstance(sys.modules["slow_one"].Thing(), Thing)


def test_what_it_does_not_have_is_missed_as_ever(modules):
    slow_one = importlib.import_module("slow_one")
    assert not hasattr(slow_one, "nothing")
    with pytest.raises(ImportError, match="cannot import name 'nothing' from 'slow_one'"):
        from slow_one import nothing  # noqa: F401


@pytest.mark.parametrize("name", ["part", "further"])
def test_a_package_is_executed_before_its_parts_and_each_once(modules, name):
    package = importlib.import_module("slow_pack")
    assert modules == []
    part = importlib.import_module(f"slow_pack.{name}")
    assert modules == ["slow_pack", "slow_pack.part", "slow_pack.further"][: 2 + (name != "part")]
    assert vars(package)[name] is part is sys.modules[f"slow_pack.{name}"]
    assert part.__spec__.origin.endswith(f"{name}.py")
    assert type(package) is types.ModuleType


def test_a_module_that_is_not_there_is_missed_at_the_start(modules):
    with pytest.raises(ModuleNotFoundError, match="slow_missing"):
        importlib.import_module("slow_missing")


def test_a_module_that_cannot_be_imported_says_that_it_had_waited(modules):
    slow_broken = importlib.import_module("slow_broken")
    double = slow_broken.double
    for use in (lambda: slow_broken.VALUE, lambda: double(3)):
        with pytest.raises(ImportError, match=f"slow_broken, .*no_such_module.* {SWITCH}=0"):
            use()
    assert "VALUE" not in vars(slow_broken)


def test_a_listed_function_that_the_module_no_longer_has_is_an_error(modules, monkeypatch):
    fast_import.PUT_OFF["slow_one"] = ["gone"]
    from slow_one import gone

    with pytest.raises(AttributeError, match="gone"):
        gone()


def test_torch_disables_compilation_only_where_something_is_compiled(modules, monkeypatch):
    for name, make in (("disable", "_disable"), ("graph_break", "_graph_break")):
        monkeypatch.setitem(fast_import._WITHOUT, ("dynamo", name), getattr(fast_import, make))
    fast_import.PUT_OFF["dynamo"] = ["disable", "graph_break"]
    dynamo = importlib.import_module("dynamo")
    add = dynamo.disable(lambda a, b: a + b, True, wrapping=False)
    dynamo.graph_break()
    assert add(1, b=2) == 3
    assert modules == []
    assert dynamo.VALUE == 3
    assert add(1, b=2) == ("disabled", True, False, 3)
    assert dynamo.graph_break() == "broken"


def test_it_is_installed_once_and_the_environment_switches_it_off(modules, monkeypatch):
    fast_import.install()
    assert sum(map(_is_ours, sys.meta_path)) == 1
    monkeypatch.setattr(sys, "meta_path", [f for f in sys.meta_path if not _is_ours(f)])
    monkeypatch.setenv(SWITCH, "0")
    fast_import.install()
    importlib.import_module("slow_one")
    assert modules == ["slow_one"]


def test_only_functions_of_espnet_are_left_unchecked(monkeypatch):
    monkeypatch.setattr(typeguard, "typechecked", functools.partial(_mark, "checked"))
    typeguard.typechecked.__module__ = "typeguard"
    fast_import._leave_unchecked()
    fast_import._leave_unchecked()  # changes nothing

    def function(module):
        def f():
            pass

        f.__module__ = module
        return f

    for module in ("espnet.nets", "espnet2.train.trainer"):
        for kind in (lambda f: f, staticmethod, classmethod):
            f = kind(function(module))
            assert typeguard.typechecked(f) is f
    for module in ("espnet_tse_ser.files", "other", None):
        f = function(module)
        assert typeguard.typechecked(f) == ("checked", f)
    assert typeguard.typechecked(always=True) == ("checked", None, True)


def _mark(label, target, **options):
    return (label, target, *options.values())
