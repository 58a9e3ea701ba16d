from __future__ import annotations

import shlex

import yaml

from inbatch.data.formats.doubt import Doubt, as_option


def test_the_option_is_read_by_a_shell_and_by_yaml():
    settings = {"delimiter": "|", "columns": {"anchor": "a: b", "positive": "it's"}, "header": False}
    (word,) = shlex.split(as_option("my file.csv", **settings))
    assert yaml.safe_load(word.removeprefix("--data.sources=")) == {"path": "my file.csv", **settings}


def test_each_meaning_has_its_line_with_what_is_set_already():
    doubt = Doubt(
        "a.csv", "it may be so", [("if so", {"header": True}), ("if not", {"header": False})], {"weight": 2.0}
    )
    assert str(doubt) == (
        "a.csv: it may be so. In inbatch fit (evaluate, search and encode take the braces and what is in them as their source), if so: '--data.sources={path: a.csv, weight: 2.0, header: true}'; "
        "if not: '--data.sources={path: a.csv, weight: 2.0, header: false}'"
    )
    assert doubt.exit_code == 2
