"""The corpora that `bin.prepare` knows: a line each. Nothing is imported before it is asked for.

What a function takes are the options of its subcommand: a parameter's annotation says what it may
be, its default what it is, and its line in the docstring what it means.
"""

import importlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Corpus:
    """A line of the registry.

    Attributes:
        place: module in this package and function in it. about: a few words for the help.
        made: the function makes a corpus in ``output_dir``. Else it reads one: root -> list of
            `Utterance` or `Noise`, and ``output_dir`` is a data directory.
    """

    place: str
    about: str
    made: bool = False

    @property
    def function(self):
        module, _, name = self.place.partition(":")
        return getattr(importlib.import_module(f"{__package__}.{module}"), name)


CORPORA = {
    "iemocap": Corpus("iemocap:prepare_iemocap", "IEMOCAP, 4 classes"),
    "librispeech": Corpus("librispeech:prepare_librispeech", "LibriSpeech"),
    "ravdess": Corpus("ravdess:prepare_ravdess", "RAVDESS speech"),
    "speechocean762": Corpus(
        "speechocean762:prepare_speechocean762", "speechocean762, read English of Mandarin speakers"
    ),
    "ased": Corpus("ased:prepare_ased", "ASED, Amharic"),
    "esd": Corpus("esd:prepare_esd", "ESD, emotional interferers"),
    "esc50": Corpus("esc50:prepare_esc50", "ESC-50, noise"),
    "musan": Corpus("musan:prepare_musan", "MUSAN, noise (or music, speech)"),
    "urbansound8k": Corpus("urbansound8k:prepare_urbansound8k", "UrbanSound8K, noise"),
    "folder": Corpus("folder:prepare_folder", "any folder of sounds, as noise"),
    "mini": Corpus(
        "mini:make_mini", "make the mini corpora (IEMOCAP, LibriSpeech, ESD, noise)", made=True
    ),
}
