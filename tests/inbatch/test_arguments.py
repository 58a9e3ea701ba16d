from __future__ import annotations

import pytest

from inbatch.arguments import Parser
from inbatch.errors import UsageError
from inbatch.spelling import nearest, suggest


@pytest.fixture
def parser() -> Parser:
    parser = Parser(prog="inbatch tool")
    parser.add_argument("path")
    parser.add_argument("--token-budget", type=int, default=3)
    parser.add_argument("--split", choices=["train", "test"], default="test")
    return parser


@pytest.fixture
def nested() -> Parser:
    parser = Parser(prog="inbatch tool")
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("sts").add_argument("--data-dir")
    kinds.add_parser("retrieval").add_argument("--split")
    return parser


def test_right_arguments_are_parsed(parser: Parser):
    parsed = parser.parse_args(["x", "--token-budget=5"])
    assert (parsed.path, parsed.token_budget, parsed.split) == ("x", 5, "test")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["x", "--token-budgte", "5"], "inbatch tool takes no option --token-budgte. Did you mean --token-budget?"),
        (["--token-budgte=5"], "takes no option --token-budgte. Did you mean --token-budget?"),
        (["x", "--token", "5"], "takes no option --token"),  # an abbreviation
        (["x", "--zzz"], "takes no option --zzz (`inbatch tool --help` lists them)"),
        (["x", "y"], "takes no argument 'y'"),
        ([], "required: path"),
        (["x", "--token-budget", "many"], "invalid int value: 'many'"),
        (["x", "--split", "tset"], "no choice is 'tset'. Did you mean test?"),
        (["x", "--split", "q"], "no choice is 'q'. Choose from train, test"),
    ],
)
def test_wrong_arguments_are_answered_in_one_sentence(parser: Parser, arguments: list[str], sentence: str):
    with pytest.raises(UsageError) as error:
        parser.parse_args(arguments)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_options_of_the_chosen_sub_verb_are_known_and_suggested(nested: Parser):
    assert nested.parse_args(["sts", "--data-dir", "x"]).data_dir == "x"
    with pytest.raises(UsageError, match="takes no option --data_dri. Did you mean --data-dir"):
        nested.parse_args(["sts", "--data_dri", "x"])
    with pytest.raises(UsageError, match="takes no option --split"):
        nested.parse_args(["sts", "--split", "x"])
    with pytest.raises(UsageError, match="no choice is 'st'. Did you mean sts"):
        nested.parse_args(["st"])


def test_suggest_says_nothing_when_nothing_is_near():
    assert suggest("alpha", ["omega", "zeta"]) == ""


def test_nearest_is_the_name_alone():
    assert nearest("alpah", ["omega", "alpha"]) == "alpha"
    assert nearest("alpha", ["omega", "zeta"]) == ""
