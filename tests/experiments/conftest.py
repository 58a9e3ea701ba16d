"""A stand-in encoder that needs no weights, so that evaluators and commands are tested on exact, quick numbers."""

from __future__ import annotations

import zlib

import known_rates
import pytest
import torch


class BagOfWords:
    """Counts of hashed words, normalised; records how it was called."""

    pooling = "sum"
    dim = 4096
    device = torch.device("cpu")

    default_prompt = None

    def __init__(self, prompts=None):
        self.prompts = {"query": "", "document": "", **(prompts or {})}
        self.ensembles = {}
        self.calls = []

    def encode(self, texts, *, prompt_name=None, instruction=None, token_budget=16384, max_length=None, progress=False):
        self.calls.append({"texts": list(texts), "prompt_name": prompt_name, "max_length": max_length})
        prompt = self.prompts[prompt_name] if prompt_name else ""
        prompt = prompt.replace("{instruction}", instruction or "")
        rows = torch.zeros(len(texts), self.dim)
        for row, text in zip(rows, texts):
            for word in (prompt + text).lower().split()[:max_length]:
                row[zlib.crc32(word.encode()) % self.dim] += 1
        return torch.nn.functional.normalize(rows, dim=1)

    def to(self, device):
        return self

    def eval(self):
        return self


@pytest.fixture(autouse=True)
def rates(monkeypatch):
    """Let no test go by what the processor under it reaches."""
    known_rates.stub(monkeypatch)


@pytest.fixture
def bag_of_words():
    return BagOfWords()


@pytest.fixture
def loaded(monkeypatch, bag_of_words):
    """Commands load the stand-in whatever model is asked for; returns it."""
    from inbatch.models.encoder import Encoder

    monkeypatch.setattr(Encoder, "from_pretrained", classmethod(lambda cls, name, **_: bag_of_words))
    return bag_of_words
