from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inbatch.data.formats.columns import DIGITS, NUMBER, OTHER, TEXT, TEXTS, Roles, read_as, resolve
from inbatch.data.formats.doubt import Doubt
from inbatch.errors import UsageError


def texts(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, TEXT)


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (texts("text"), Roles("text")),
        (texts("sentence"), Roles("sentence")),
        (texts("query"), Roles("query")),
        (texts("anchor", "positive"), Roles("anchor", "positive")),
        (texts("positive", "anchor"), Roles("anchor", "positive")),
        (texts("Question", "Answer"), Roles("Question", "Answer")),
        (texts("anchor", "positive", "negative"), Roles("anchor", "positive", ("negative",))),
        (texts("sent0", "sent1", "hard_neg"), Roles("sent0", "sent1", ("hard_neg",))),
        (
            texts("anchor", "positive", "negative_10", "negative_2"),
            Roles("anchor", "positive", ("negative_2", "negative_10")),
        ),
        (texts("sentence1", "sentence2") | {"similarity": NUMBER}, Roles("sentence1", "sentence2", (), "similarity")),
        (texts("text") | {"Labels": DIGITS}, Roles("text")),
        (texts("sentence1", "sentence2") | {"score": DIGITS}, Roles("sentence1", "sentence2", (), "score")),
        (texts("query") | {"pos": TEXTS, "neg": TEXTS}, Roles("query", "pos", ("neg",))),
        (texts("question") | {"answer": DIGITS}, Roles("question", "answer")),
    ],
)
def test_roles_are_found_by_name(kinds, expected):
    roles = resolve(kinds, None, "file")
    assert (roles.anchor, roles.positive, roles.negatives, roles.score, roles.how) == (
        expected.anchor,
        expected.positive,
        expected.negatives,
        expected.score,
        "by name",
    )


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (texts("a"), Roles("a", how="by order")),
        (texts("a", "b"), Roles("a", "b", how="by order")),
        (texts("a", "b", "c", "d"), Roles("a", "b", ("c", "d"), how="by order")),
        (texts("a", "b") | {"c": NUMBER}, Roles("a", "b", (), "c", "by order")),
        (texts("a", "b") | {"c": DIGITS}, Roles("a", "b", (), "c", "by order")),
    ],
)
def test_roles_are_found_by_order_where_no_name_is_known(kinds, expected):
    assert resolve(kinds, None, "file") == expected


@given(st.permutations(["anchor", "positive", "negative_1", "negative_2", "score"]))
def test_names_decide_whatever_the_order(names):
    kinds = {name: NUMBER if name == "score" else TEXT for name in names}
    expected = Roles("anchor", "positive", ("negative_1", "negative_2"), "score", "by name")
    assert resolve(kinds, None, "file") == expected


@pytest.mark.parametrize(
    ("kinds", "why"),
    [
        (texts("query", "pos", "neg", "id"), "no role is known for id"),
        (texts("text", "instruction"), "role of text is open"),
        (texts("anchor", "instruction"), "known as the positive"),
        (texts("query", "question", "answer"), "query and question may all be the anchor"),
        (texts("anchor", "positive", "answer"), "positive and answer may all be the positive"),
        (texts("text", "answer"), "role of text is open"),
        (texts("text", "sentence"), "role of text, sentence is open"),
        (texts("positive", "negative"), "known as the anchor"),
        (texts("anchor", "negative"), "known as the positive"),
        (texts("anchor", "positive", "neg", "hard_neg"), "neg and hard_neg may all be"),
        (texts("anchor", "positive", "neg", "neg_1"), "neg and neg_1 may all be"),
        (texts("anchor", "positive", "neg_1", "negative_1"), "neg_1 and negative_1 may all be"),
        ({"id": NUMBER} | texts("a", "b"), "not all of them hold texts"),
        (texts("a") | {"n": DIGITS}, "not all of them hold texts"),
        ({"n": DIGITS} | texts("a", "b"), "not all of them hold texts"),
        (texts("a") | {"meta": OTHER}, "not all of them hold texts"),
    ],
)
def test_what_cannot_be_decided_is_refused_with_the_setting(kinds, why):
    with pytest.raises(UsageError, match=why) as error:
        resolve(kinds, None, "rows.csv")
    assert str(error.value).startswith("rows.csv: ")
    assert "Say which has which of the roles anchor, positive, negatives, score, instruction, label, others;" in str(
        error.value
    )
    assert "'--data.sources={path: rows.csv, columns: {anchor: " in str(error.value)


@pytest.mark.parametrize(
    ("kinds", "columns"),
    [
        ({"id": NUMBER} | texts("question", "answer"), "{anchor: question, positive: answer}"),
        (texts("id", "question", "answer"), "{anchor: question, positive: answer}"),
        (texts("alpha", "positive", "beta") | {"label": DIGITS}, "{anchor: alpha, positive: positive}"),
        (texts("alpha", "positive", "beta") | {"scores": DIGITS}, "{anchor: alpha, positive: positive, score: scores}"),
        (texts("text", "title"), "{anchor: text, positive: title}"),
        (texts("query", "question", "answer"), "{anchor: query, positive: answer}"),
        (texts("anchor", "body", "neg", "neg_1"), "{anchor: anchor, positive: body, negatives: [neg, neg_1]}"),
        (texts("anchor", "body", "neg") | {"neg_1": TEXTS}, "{anchor: anchor, positive: body, negatives: [neg]}"),
        (
            texts("query", "pos", "Instruction", "id"),
            "{anchor: query, positive: pos, instruction: Instruction}",
        ),
        (texts("a") | {"meta": OTHER}, "{anchor: a}"),
        ({"meta": OTHER}, "{anchor: NAME}"),
        (texts("a: b", "it's", "positive", "answer"), "{anchor: 'a: b', positive: positive}"),
        ({"n": DIGITS} | texts("a", "b"), "{anchor: a, positive: b, score: n}"),
        ({"n": DIGITS} | texts("a", "b", "c"), "{anchor: a, positive: b, negatives: [c], score: n}"),
        (texts("a") | {"n": DIGITS}, "{anchor: a, positive: n}"),
        ({"n": DIGITS} | texts("a") | {"m": DIGITS}, "{anchor: n, positive: a, score: m}"),
    ],
)
def test_the_line_that_may_be_meant_is_given_and_can_be_read_by_a_shell(kinds, columns):
    with pytest.raises(UsageError) as error:
        resolve(kinds, None, "my rows.csv")
    (line,) = shlex.split(str(error.value).partition("if this is meant: ")[2])
    assert line == f"--data.sources={{path: my rows.csv, columns: {columns}}}"


@pytest.mark.parametrize(
    ("kinds", "ids", "expected"),
    [
        ({"": DIGITS} | texts("a", "b"), {"": "ids"}, "anchor = a; positive = b (by order; left out as identifiers: )"),
        (texts("uuid", "a", "b"), {"uuid": "ids"}, "anchor = a; positive = b (by order; left out as identifiers: uuid)"),
        (texts("a", "b") | {"n": NUMBER, "id": TEXT}, {"id": "ids"}, "anchor = a; positive = b; score = n (by order; left out as identifiers: id)"),
        ({"n": NUMBER} | texts("a"), {"n": "ids"}, "anchor = a; positive = the same text (by order; left out as identifiers: n)"),
        (texts("id", "query", "answer"), {"id": "ids"}, "anchor = query; positive = answer (by name; left out as identifiers: id)"),
        (texts("query", "answer", "k") | {"score": DIGITS}, {"k": "ids", "score": "ids"},
         "anchor = query; positive = answer; score = score (by name; left out as identifiers: k)"),
        (texts("query", "answer"), {"query": "maybe ids", "answer": "ids"}, "anchor = query; positive = answer (by name)"),
        (texts("hund", "dog"), {"hund": "maybe ids", "dog": "maybe ids"}, "anchor = hund; positive = dog (by order)"),
        (texts("hund"), {"hund": "maybe ids"}, "anchor = hund; positive = the same text (by order)"),
    ],
)  # fmt: skip
def test_columns_of_identifiers_are_left_out(kinds, ids, expected):
    assert str(resolve(kinds, None, "file", ids)) == expected


@pytest.mark.parametrize(
    ("kinds", "ids", "choices"),
    [
        ({"n": DIGITS} | texts("a", "b"), {"n": "maybe ids"},
         [{"anchor": "a", "positive": "b"}, {"anchor": "a", "positive": "b", "score": "n"}]),
        (texts("key", "a", "b"), {"key": "maybe ids"},
         [{"anchor": "a", "positive": "b"}, {"anchor": "key", "positive": "a", "negatives": ["b"]}]),
        (texts("key", "a"), {"key": "maybe ids"}, [{"anchor": "a"}, {"anchor": "key", "positive": "a"}]),
        (texts("a", "b") | {"n": NUMBER}, {"n": "maybe ids"},
         [{"anchor": "a", "positive": "b"}, {"anchor": "a", "positive": "b", "score": "n"}]),
        ({"n": DIGITS, "m": DIGITS} | texts("a"), {"n": "maybe ids", "m": "maybe ids"},
         [{"anchor": "a"}, {"anchor": "m", "positive": "a"}, {"anchor": "n", "positive": "m", "negatives": ["a"]}]),
    ],
)  # fmt: skip
def test_columns_that_may_be_identifiers_are_refused_with_all_that_may_be_meant(kinds, ids, choices):
    with pytest.raises(Doubt, match="may hold identifiers") as doubt:
        resolve(kinds, None, "file", ids)
    assert [more["columns"] for _, more in doubt.value.meanings] == choices


@pytest.mark.parametrize(
    ("kinds", "ids"),
    [
        ({"query": DIGITS, "document": DIGITS}, {"query": "ids", "document": "ids"}),
        ({"query": DIGITS} | texts("positive"), {"query": "maybe ids"}),
        (texts("query") | {"passage": DIGITS}, {"passage": "ids"}),
        ({"text": DIGITS}, {"text": "maybe ids"}),
    ],
)
def test_numbers_under_the_names_of_texts_are_refused(kinds, ids):
    with pytest.raises(Doubt, match="not texts, by the first rows") as doubt:
        resolve(kinds, None, "file", ids)
    assert resolve(kinds, doubt.value.meanings[0][1]["columns"], "file", ids).how == "as set"


def test_an_instruction_is_one_beside_known_names_only():
    roles = resolve(texts("instruction", "query", "positive", "negative"), None, "file")
    assert roles == Roles("query", "positive", ("negative",), None, "by name", "instruction")
    assert roles.without_instruction == "{anchor: query, positive: positive, negatives: [negative]}"
    assert resolve(texts("instruction", "output"), None, "file") == Roles("instruction", "output", how="by order")
    kinds = texts("query", "positive", "instructions")
    with pytest.raises(UsageError, match="no role is known for instructions"):
        resolve(kinds, None, "file")


def test_a_column_called_label_is_never_taken_for_a_score_by_itself():
    kinds = texts("sentence1", "sentence2") | {"label": NUMBER}
    with pytest.raises(Doubt) as doubt:
        resolve(kinds, None, "file")
    pair = {"anchor": "sentence1", "positive": "sentence2"}
    assert doubt.value.meanings == [
        ("if it holds scores", {"columns": {**pair, "score": "label"}}),
        ("if it holds classes", {"columns": {**pair, "label": "label"}}),
        ("if it holds nothing that matters", {"columns": pair}),
    ]
    assert str(doubt.value).startswith("file: the column label may hold classes or scores. In inbatch fit (")
    for role in ("label", "score"):
        roles = resolve(kinds, {**pair, role: "label"}, "file")
        assert str(roles) == f"anchor = sentence1; positive = sentence2; {role} = label (as set)"
    with pytest.raises(UsageError, match="none of them is known as the anchor"):
        resolve({"label": NUMBER}, None, "file")


def test_a_column_is_not_both_text_and_score():
    kinds = texts("q", "d") | {"s": NUMBER}
    with pytest.raises(UsageError, match="other columns of scores than of texts; got s as both. Set columns.score to"):
        resolve(kinds, {"anchor": "q", "positive": "s", "score": "s"}, "file")


def test_labels_others_and_several_scores_are_read_where_they_are_set():
    kinds = texts("q", "d", "n", "d2", "c", "topic") | {"s": NUMBER, "t": DIGITS, "list": OTHER}
    columns = {"anchor": "q", "positive": "d", "negatives": ["n"], "score": ["s", "t"], "label": "topic"}
    roles = resolve(kinds, columns | {"others": {"positive_2": "d2", "context": "c"}}, "file")
    assert roles == Roles("q", "d", ("n",), ("s", "t"), label="topic", others={"positive_2": "d2", "context": "c"})
    assert roles.texts == ("q", "d", "n", "d2", "c")
    assert roles.used == ("q", "d", "n", "d2", "c", "s", "t", "topic")
    assert roles.setting == columns | {"others": {"positive_2": "d2", "context": "c"}}
    assert str(roles) == (
        "anchor = q; positive = d; negatives = n; positive_2 = d2; context = c; score = s, t; label = topic (as set)"
    )
    assert resolve(kinds, roles.setting, "file") == roles
    lists = resolve(kinds, {"anchor": "q", "positive": "d", "score": "list"}, "file")
    assert [read_as(kinds[name], name in lists.scores) for name in lists.used] == [TEXT, TEXT, TEXTS]
    assert [read_as(kinds[name], name in roles.scores) for name in ("s", "t", "topic")] == [NUMBER, NUMBER, TEXT]
    assert read_as(NUMBER, False) == TEXT


def test_a_given_mapping_decides_and_ignores_the_rest():
    kinds = texts("title", "query", "body", "bad") | {"year": NUMBER, "meta": OTHER}
    columns = {"anchor": "title", "positive": "body", "negatives": ["bad"], "score": "year"}
    assert resolve(kinds, columns, "file") == Roles("title", "body", ("bad",), "year", "as set")
    assert resolve(texts("0", "1"), {"anchor": 1, "positive": [0]}, "file") == Roles("1", "0")


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"query": "a"}, "expected roles anchor, positive, negatives, score"),
        ({"positive": "a"}, "at least an anchor"),
        ({}, "at least an anchor"),
        ({"anchor": "z"}, "no column z"),
        ({"anchor": ["a", "b"]}, "one column as anchor; got 2"),
        ({"anchor": "a", "negatives": ["b"]}, "need a positive"),
        ({"anchor": "a", "score": "n"}, "need a positive"),
        (
            {"anchor": "o"},
            "expected texts in column o.*: '--data.sources={path: file, columns: {anchor: a, positive: b}}'",
        ),
        ({"anchor": "a", "positive": "b", "score": "c"}, "expected numbers in the score column c"),
        ({"anchor": "a", "positive": "b", "score": ["n", "c"]}, "expected numbers in the score column c"),
        ({"anchor": "a", "positive": "b", "score": ["n", "m"]}, "got 2 columns of scores and 0 columns of hard"),
        (
            {"anchor": "a", "positive": "b", "negatives": ["list"], "score": ["n", "m"]},
            "2 columns of scores and hard negatives in lists",
        ),
        ({"anchor": "a", "label": ["n", "m"]}, "one column as label; got 2"),
        ({"anchor": "a", "label": "o"}, "expected integers or words in the label column o"),
        ({"anchor": "a", "others": "b"}, "expected columns.others as names"),
        ({"anchor": "a", "others": {"context": ["b"]}}, "expected columns.others as names"),
        ({"anchor": "a", "others": {"context": "z"}}, "no column z, set as context"),
        ({"anchor": "a", "others": {"negative_1": "b"}}, "got 'negative_1'"),
        ({"anchor": "a", "others": {"a b": "b"}}, "got 'a b'"),
        ({"anchor": "list"}, "lists of texts"),
        ({"anchor": "a", "positive": "b", "negatives": ["c", "list"]}, "lists of texts"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(columns, why):
    kinds = texts("a", "b", "c") | {"n": NUMBER, "m": NUMBER, "o": OTHER, "list": TEXTS}
    with pytest.raises(UsageError, match=why):
        resolve(kinds, columns, "file")


def test_numbers_are_texts_where_a_name_says_so_and_never_by_order():
    kinds = texts("a") | {"n": NUMBER}
    assert resolve(kinds, {"anchor": "a", "positive": "n"}, "file") == Roles("a", "n")
    assert resolve(texts("question") | {"answer": NUMBER}, None, "file") == Roles("question", "answer", how="by name")
    with pytest.raises(UsageError, match="not all of them hold texts"):
        resolve(kinds, None, "file")


def test_roles_read_as_a_sentence():
    roles = Roles("a", "b", ("c", "d"), "e", "by order")
    assert str(roles) == "anchor = a; positive = b; negatives = c, d; score = e (by order)"
    assert str(Roles("a")) == "anchor = a; positive = the same text (as set)"
    assert roles.used == ("a", "b", "c", "d", "e")
    assert Roles("a", "a").texts == ("a",)


def test_lists_beside_further_texts_are_answered_with_the_pair():
    kinds = {"a": TEXT, "b": TEXT, "more": TEXTS, "c": TEXT}
    with pytest.raises(
        UsageError, match=r"if it is pairs: '--data\.sources=\{path: x, columns: \{anchor: a, positive: b\}\}'"
    ):
        resolve(kinds, None, "x")
    with pytest.raises(
        UsageError, match=r"lists of texts may stand in .* with anchor = l, .*\. Set columns\.$|l with anchor"
    ):
        resolve({"l": TEXTS, "b": TEXT}, {"anchor": "l", "positive": "b"}, "x")
