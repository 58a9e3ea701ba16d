"""The lines that a refusal proposes, typed: what the shell and the parser of ``inbatch fit`` make of them."""

from __future__ import annotations

import re
import shlex

from jsonargparse import ArgumentParser

from inbatch.data.datamodule import EmbeddingDataModule
from inbatch.data.sources.sources import Source, as_sources
from inbatch.run.config import keep_path

_PARSER = ArgumentParser(exit_on_error=False)
_PARSER.add_class_arguments(EmbeddingDataModule, "data")
_LINE = re.compile(r"'?--data\.sources=(?:[^']|'\"'\"')*'")


def sources_in(message: str) -> list[Source]:
    """Return the sources that the options in a message say."""
    found = []
    for line in _LINE.findall(message):
        arguments = keep_path([*shlex.split(line), "--data.batch_size=2"])
        config = _PARSER.parse_args(arguments)
        found += as_sources(_PARSER.instantiate_classes(config).data.sources)
    return found
