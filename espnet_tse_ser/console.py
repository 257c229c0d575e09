"""The command ``tse-ser``: verbs, each of which is a module of `espnet_tse_ser.bin`."""

import importlib
import sys

from espnet_tse_ser.errors import run

VERBS = {
    "infer": ("infer", "extract the target of recordings and recognise its emotion"),
    "extract": ("extract_files", "extract the target of recordings"),
    "timeline": ("timeline", "when the target speaks in a long recording, with which emotion"),
    "report": ("report", "write an experiment as a page to listen to"),
    "prepare": ("prepare", "prepare a Kaldi data directory from a corpus"),
    "score": ("score", "join hypotheses with the mixture table (stage 13)"),
    "compare": ("compare", "compare two systems on the same utterances"),
    "calibrate": ("calibrate", "calibrate a joint model on dev, or evaluate its calibration"),
    "pack": ("pack", "pack a trained model into one archive or directory"),
}
_HELP = (
    "usage: tse-ser VERB ... | --version\n\n{}\n\n`tse-ser VERB --help` lists the options of each."
)


def main(argv=None):
    """Run the verb that is the first argument; returns the exit status."""
    verb, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if verb in ("-h", "--help"):
        print(_HELP.format("\n".join(f"  {name:9} {about}" for name, (_, about) in VERBS.items())))
        return 0
    if verb == "--version":
        from importlib.metadata import version

        print(f"espnet_tse_ser {version('espnet_tse_ser')}")
        return 0
    if verb not in VERBS:
        print(f"error: '{verb}' is no verb of tse-ser; give {', '.join(VERBS)}", file=sys.stderr)
        return 2
    sys.argv[0] = f"tse-ser {verb}"  # what usage lines say
    module = importlib.import_module(f"espnet_tse_ser.bin.{VERBS[verb][0]}")
    return run(module.main, rest)
