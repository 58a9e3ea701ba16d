"""PromptBERT's template bias: the released code's numbers with a toy encoder, and the switches."""

import pytest
import torch

from inbatch.errors import UsageError
from inbatch.losses.contrastive.infonce import InfoNCE
from inbatch.models.adapters.prefix import Prefix
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.heads.dense import Dense, MLMTransform
from inbatch.models.heads.pooling import States
from inbatch.models.heads.template_bias import TemplateBias
from inbatch.text.templates import Template, parse
from inbatch.text.tokens import tokenize
from inbatch.views import TokenBatch, Views

A = Template(pieces=((1, 4), (5, 3, 2)), mask=1, mask_is_right=True)
B = Template(pieces=((1, 6), (5, 3, 2)), mask=1, mask_is_right=True)
VIEWS = ([[1, 4, 7, 5, 3, 2, 0], [1, 4, 7, 8, 5, 3, 2]], [[1, 6, 7, 5, 3, 2, 0], [1, 6, 7, 8, 5, 3, 2]])
LENGTHS = torch.tensor([1, 2])
DIFFERENCES = (
    [[0.004860, -0.146905, -0.094687], [0.010688, -0.174362, -0.045805]],
    [[0.004114, -0.106613, -0.057808], [0.009393, -0.111024, 0.021205]],
)


class Toy:
    """The example's encoder: state = (E[token] + P[position]) · (1 + mean of E over the text)."""

    first_position = 0

    def __init__(self, interact=True):
        i, j = torch.arange(9.0, dtype=torch.float64)[:, None], torch.arange(3.0, dtype=torch.float64)
        self.words, self.places = torch.sin(i + j), 0.1 * torch.cos(0.7 * i + 2 * j)
        self.interact = interact

    def __call__(self, tokens):
        places = torch.arange(tokens.input_ids.shape[1]).expand_as(tokens.input_ids)
        places = places if tokens.position_ids is None else tokens.position_ids
        e, mask = self.words[tokens.input_ids], tokens.attention_mask[..., None].double()
        mean = (e * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
        return States((e + self.places[places]) * (1 + mean * self.interact))


def differences(toy):
    found = []
    for rows, template in zip(VIEWS, (A, B)):
        ids = torch.tensor(rows)
        tokens = TokenBatch(ids, (ids != 0).long())
        h = toy(tokens).last[torch.arange(2), [template.mask_position(int(n)) for n in LENGTHS]]
        found.append(h - TemplateBias()(toy, template, LENGTHS))
    return found


def test_equals_the_released_code_to_six_digits():
    found = differences(Toy())
    for mine, theirs in zip(found, DIFFERENCES):
        assert torch.allclose(mine, torch.tensor(theirs, dtype=torch.float64), atol=5e-7)
    assert abs(float(InfoNCE(0.05)(Views(*found), None, None).loss) - 0.800507) < 5e-7


def test_without_interaction_the_bias_is_the_whole_state():
    """Holds only if the positions behind the text's place are shifted by its length."""
    for difference in differences(Toy(interact=False)):
        assert torch.equal(difference, torch.zeros(2, 3, dtype=torch.float64))


PROMPTS = {"query": 'it says "{text}" and {mask}.', "document": 'or "{text}" means {mask}.'}
TEXTS = ["short", "a longer text than the others", "mid size"]


def encoder_with(kind="bert", head=None, **switches):
    backbone = TinyRandom(kind, dropout=0.0)
    return Encoder(
        backbone, pooling="mask", head=head, normalize=False, prompts=PROMPTS, correction=TemplateBias(**switches)
    )


def views_of(encoder):
    return Views(*(tokenize(encoder.tokenizer, TEXTS, 40, encoder.prompts[side]) for side in ("query", "document")))


def test_each_view_loses_the_bias_of_its_own_template():
    encoder = encoder_with()
    views = views_of(encoder)
    biases = encoder.biases(views)
    assert biases.shape == (6, 32)
    for role, (side, tokens) in enumerate(zip(("query", "document"), views)):
        template = parse(encoder.tokenizer, PROMPTS[side])
        for row, text in enumerate(TEXTS):
            length = len(encoder.tokenizer(text, add_special_tokens=False)["input_ids"])
            ids = torch.tensor([[*template.left, *template.right]])
            places = torch.tensor(
                [[*range(len(template.left)), *range(len(template.left) + length, ids.shape[1] + length)]]
            )
            alone = TokenBatch(ids, torch.ones_like(ids), position_ids=places)
            bias = encoder.backbone(alone).last[0, template.mask_position(0)]
            torch.testing.assert_close(biases[3 * role + row], bias)
            assert tokens.slots["mask"][row] == template.mask_position(length)


def test_views_in_one_template_share_its_biases_and_their_dropout():
    prompts = {"query": PROMPTS["query"], "document": PROMPTS["query"]}
    encoder = Encoder(TinyRandom(), "mask", prompts=prompts, correction=TemplateBias()).train()
    first, second = encoder.biases(views_of(encoder)).split(3)
    assert torch.equal(first, second)
    apart = Encoder(TinyRandom(), "mask", prompts=PROMPTS, correction=TemplateBias()).train()
    assert not torch.equal(*apart.biases(views_of(apart)).split(3))


def test_own_positions_begin_behind_a_prefix():
    encoder = Encoder(TinyRandom(dropout=0.0, prefix=Prefix(8)), "mask", prompts=PROMPTS, correction=TemplateBias())
    template = parse(encoder.tokenizer, PROMPTS["query"])
    seen = []
    forward = encoder.backbone.network.forward
    encoder.backbone.network.forward = lambda **inputs: seen.append(inputs["position_ids"]) or forward(**inputs)
    for how in ("own", "from_zero"):
        TemplateBias(delta_positions=how)(encoder.backbone, template, torch.tensor([3]))
    encoder.backbone(tokenize(encoder.tokenizer, ["abc"], 40, PROMPTS["query"]))
    own, from_zero, of_text = ([int(places[0, 0]), int(places[0, -1])] for places in seen)
    assert own == of_text == [8, from_zero[1] + 8]


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_the_released_positions_begin_at_zero(kind):
    """For RoBERTa that is two positions off; its own begin behind the padding's row."""
    encoder = encoder_with(kind)
    template = parse(encoder.tokenizer, PROMPTS["query"])
    released, own = (
        TemplateBias(delta_positions=how)(encoder.backbone, template, torch.tensor([3])) for how in ("from_zero", "own")
    )
    assert torch.allclose(released, own) == (kind == "bert")


def test_the_gradient_flows_through_the_bias_or_not():
    for flows in (True, False):
        encoder = encoder_with(bias_gradient=flows)
        biases = encoder.biases(views_of(encoder))
        assert biases.requires_grad == flows


@pytest.mark.parametrize("after", [False, True])
def test_the_head_comes_before_or_after_the_bias(after):
    head = Dense(32) if not after else MLMTransform(32)
    encoder = encoder_with(head=head, after_head=after)
    views = views_of(encoder)
    bias = encoder.bias(views.anchor, "query")
    plain = Encoder(encoder.backbone, pooling="mask", normalize=False, prompts=PROMPTS)(views.anchor)
    expected = head(plain) - head(bias) if after else head(plain - bias)
    torch.testing.assert_close(encoder(views.anchor, bias), expected)


@pytest.mark.parametrize("at_test", [False, True])
def test_the_switch_at_test(at_test):
    encoder = encoder_with(template_bias_at_test=at_test).eval()
    tokens = views_of(encoder).anchor
    expected = encoder(tokens, encoder.bias(tokens, "query") if at_test else None)
    torch.testing.assert_close(encoder.encode(TEXTS, prompt_name="query"), expected.detach())


def test_a_layer_norms_bias_that_cancels_is_not_trained():
    encoder = encoder_with(head=MLMTransform(32), after_head=True)
    views = views_of(encoder)
    (encoder(views.anchor, encoder.bias(views.anchor, "query")) ** 2).sum().backward()
    assert {name for name, p in encoder.head.named_parameters() if p.grad is None} == {"norm.bias"}


def test_an_export_keeps_templates_and_correction(tmp_path):
    encoder = encoder_with(head=MLMTransform(32), after_head=True, template_bias_at_test=True).eval()
    encoder.default_prompt, encoder.one_string_at_test, encoder.period_at_test = "query", True, True
    made = encoder.save_pretrained(tmp_path / "export")
    assert made.obstacle == "it has no pooling `mask`"
    again = Encoder.from_pretrained(tmp_path / "export")
    torch.testing.assert_close(encoder.encode(TEXTS), again.encode(TEXTS))
    assert again.correction.after_head
    assert again.period_at_test


def test_what_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="delta_positions to be from_zero or own"):
        TemplateBias(delta_positions="two_off")
    with pytest.raises(
        UsageError, match="a template's bias expects pooling `mask` and templates for query and document"
    ):
        Encoder(TinyRandom(), pooling="cls", prompts=PROMPTS, correction=TemplateBias())
    with pytest.raises(UsageError, match="after_head expects a head"):
        encoder_with(after_head=True)
    with pytest.raises(UsageError, match="a template's bias expects"):
        Encoder(TinyRandom(), pooling="mask", prompts={"query": PROMPTS["query"]}, correction=TemplateBias())
