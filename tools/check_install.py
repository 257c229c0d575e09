#!/usr/bin/env python3
"""Print every dependency as `[x] name=version`, or `[ ] name`, what is wrong and how to get it."""

import importlib.metadata
import shutil
import subprocess
import sys

INSTALL = "make -C tools"
INSTALLED_EXTRAS = ("demo", "test")


def main():
    """Check Python, the package's dependencies and its programs; 1 if something is missing."""
    missing = [*_check_python(), *_check_packages(), *_check_programs()]
    if missing:
        print(f"\nMissing: {', '.join(missing)}. Get Python packages by `{INSTALL}`.")
        return 1
    print("\nEverything is there.")
    return 0


def _check_python():
    version = sys.version.split()[0]
    if sys.version_info[:2] in ((3, 12), (3, 13)):
        print(f"[x] python={version}")
        return []
    print(f"[ ] python={version}, but 3.12 or 3.13 is needed")
    return ["python"]


def _check_packages():
    try:
        from packaging.requirements import Requirement

        requirements = importlib.metadata.requires("espnet_tse_ser")
    except (ImportError, importlib.metadata.PackageNotFoundError) as error:
        print(f"[ ] espnet_tse_ser: {error}")
        return ["espnet_tse_ser"]
    missing = []
    for requirement in map(Requirement, requirements):
        if requirement.marker and not any(
            requirement.marker.evaluate({"extra": extra}) for extra in ("", *INSTALLED_EXTRAS)
        ):
            continue
        name = requirement.name
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            print(f"[ ] {name}")
            missing.append(name)
            continue
        if requirement.specifier.contains(version, prereleases=True):
            print(f"[x] {name}={version}")
        else:
            print(f"[ ] {name}={version}, but {name}{requirement.specifier} is needed")
            missing.append(name)
    return missing


def _check_programs():
    missing = []
    for name, remedy in (
        ("bash", "the system's package bash, 4.4 or newer"),
        ("make", "the system's package make"),
        ("awk", "the system's package gawk or mawk"),
    ):
        if path := shutil.which(name):
            print(f"[x] {name}={path}")
        else:
            print(f"[ ] {name}: install {remedy}")
            missing.append(name)
    gpus = (
        shutil.which("nvidia-smi")
        and subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout.strip()
    )
    print(f"    GPU (not needed): {gpus or 'none'}")
    return missing


if __name__ == "__main__":
    sys.exit(main())
