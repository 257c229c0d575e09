"""Let the command lines import ESPnet in a tenth of the time.

Most of its import goes into what no command here uses:

* ``@typechecked`` of typeguard parses and compiles each of ESPnet's functions a second time, with
  checks of the types of its arguments. Here ESPnet's functions are left as they are written.
* ESPnet's trainer imports text-to-speech models for its plots of attention, its extraction task
  the text tokenizers of all tasks, of which one may ask the network for NLTK data, and torch's
  optimizers its compiler. What is in `PUT_OFF` waits until something of it is used, and is then
  imported in its place.

No result depends on it. It expects nothing of the versions of ESPnet, torch and typeguard: what
they do not have is not put off. `espnet_tse_ser.bin` installs it, so only command lines have it,
and ``ESPNET_TSE_SER_FAST_IMPORT=0`` in the environment switches it off.
"""

import importlib.machinery
import importlib.util
import os
import sys
import threading
import types

SWITCH = "ESPNET_TSE_SER_FAST_IMPORT"
ESPNET = ("espnet", "espnet2")

# Modules that can wait, and their functions (or classes) that others take with ``from module
# import function`` only to call them: these wait, too. Taking another name imports at once.
PUT_OFF = {
    "espnet2.main_funcs.calculate_all_attentions": ["calculate_all_attentions"],
    "espnet2.layers.create_adapter": ["create_adapter"],
    "espnet2.text.build_tokenizer": ["build_tokenizer"],
    "espnet2.text.cleaner": ["TextCleaner"],
    "ci_sdr": [],
    "fast_bss_eval": [],
    "scipy.integrate": [],
    "scipy.signal": [],
    "torch._dynamo": ["disable", "graph_break"],
}

_lock = threading.RLock()
_executing = set()  # names of modules


def install():
    """Make the imports of ESPnet that follow fast, unless `SWITCH` says 0."""
    if os.environ.get(SWITCH) != "0" and not any(isinstance(f, _Finder) for f in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Puts off what is in `PUT_OFF`; disarms typeguard before anything of ESPnet is imported."""

    def __init__(self):
        self.asking_others = False

    def find_spec(self, name, path=None, target=None):
        if self.asking_others:
            return None
        if name.partition(".")[0] in ESPNET:
            _leave_unchecked()
        package = sys.modules.get(name.rpartition(".")[0])
        if isinstance(package, _Waiting):
            _execute(package)  # before its parts, in which it may import this one, too
            if name in sys.modules:
                return importlib.machinery.ModuleSpec(name, _Imported(sys.modules[name]))
        if name not in PUT_OFF:
            return None
        self.asking_others = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.asking_others = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader:
    """Lets modules wait, of which ``loader`` is the real loader."""

    def __init__(self, loader):
        self.loader = loader

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        module.__class__ = _Waiting
        for name in PUT_OFF[module.__name__]:
            make = _WITHOUT.get((module.__name__, name), _waiting_function)
            setattr(module, name, make(module, name))


class _Imported:
    """Hands out a module that has been imported since it was looked for."""

    def __init__(self, module):
        self.module, self.spec = module, module.__spec__
        module.__spec__ = None  # with one, Python would import the module again

    def create_module(self, spec):
        return self.module

    def exec_module(self, module):
        module.__spec__ = self.spec


class _Waiting(types.ModuleType):
    """A module that is executed as soon as it is asked for what it does not have yet."""

    def __getattr__(self, name):
        # The import system asks every module for the first, inspect.unwrap for the second.
        if name not in ("__path__", "__wrapped__"):
            _execute(self)
        return types.ModuleType.__getattribute__(self, name)


def _waiting_function(module, name):
    def function(*args, **kwargs):
        _execute(module)
        return getattr(module, name)(*args, **kwargs)

    function.__name__ = function.__qualname__ = name
    function.__module__ = module.__name__
    return function


def _disable(module, name):
    """``torch._dynamo.disable``: where nothing is compiled, a function is called as it is."""

    def disable(function, *args, **options):
        def call(*function_args, **function_options):
            if isinstance(module, _Waiting):
                return function(*function_args, **function_options)
            disabled = getattr(module, name)(function, *args, **options)
            return disabled(*function_args, **function_options)

        return call

    return disable


def _graph_break(module, name):
    """``torch._dynamo.graph_break``: where nothing is compiled, nothing."""
    return lambda *args, **options: None


# What torch's optimizers call in every training, compiled or not, can do without its module.
_WITHOUT = {
    ("torch._dynamo", "disable"): _disable,
    ("torch._dynamo", "graph_break"): _graph_break,
}


def _execute(module):
    """Let a module that waits become an ordinary one."""
    with _lock:
        name, spec = module.__name__, module.__spec__
        if not isinstance(module, _Waiting) or name in _executing:
            return
        before = dict(vars(module))
        for function in PUT_OFF[name]:
            delattr(module, function)
        spec.loader = module.__loader__ = spec.loader.loader
        _executing.add(name)
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            vars(module).clear()
            vars(module).update(before)
            spec.loader = module.__loader__ = _Loader(spec.loader)
            raise ImportError(
                f"{name}, whose import was put off by {__name__}, cannot be imported ({error}); "
                f"{SWITCH}=0 in the environment imports it at the start",
                name=name,
            ) from error
        finally:
            _executing.remove(name)
        module.__class__ = types.ModuleType


def _leave_unchecked():
    """Let typeguard's ``@typechecked`` return ESPnet's functions and classes as they are."""
    import typeguard

    check = typeguard.typechecked
    if check.__module__ == __name__:
        return

    def typechecked(target=None, *args, **options):
        package = (getattr(target, "__module__", None) or "").partition(".")[0]
        return target if package in ESPNET else check(target, *args, **options)

    typeguard.typechecked = typechecked
