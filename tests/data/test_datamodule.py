from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import lightning
import pytest
import torch
from jsonargparse import ArgumentParser

from inbatch.data.datamodule import EmbeddingDataModule
from inbatch.data.edits.edit import Edit
from inbatch.data.edits.repetition import Repetition
from inbatch.data.sources.sources import Source
from inbatch.data.views.row_view import RowView
from inbatch.errors import UsageError
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.views import Views

ROWS = 23


class Halves(RowView):
    """The two halves of a text; which is the anchor follows from the key."""

    def __init__(self, least: int = 2):
        self.least = least

    def __call__(self, row, key):
        words = row["anchor"].split(" ")
        halves = [" ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])]
        random.Random(key).shuffle(halves)
        return Views(*halves, others={"whole": row["anchor"]})

    def describe(self):
        return f"halves of texts of {self.least} words or more"


class Dropped(Edit):
    """A word, drawn from the key, is dropped."""

    def __init__(self, roles: tuple[str, ...] = ("whole",)):
        self.roles = roles

    def __call__(self, views, keys):
        def drop(text: str, key: str) -> str:
            words = text.split(" ")
            del words[random.Random(key).randrange(len(words))]
            return " ".join(words)

        named = zip(views.names, views)
        changed = ([drop(*row) for row in zip(texts, keys)] if name in self.roles else texts for name, texts in named)
        return views.replace_payloads(list(changed))

    def describe(self):
        return f"a word of {' and '.join(self.roles)} is dropped"


class Recorder(lightning.LightningModule):
    """Trains one number, and keeps the ids of the rows that it saw."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        tokenizer = TinyRandom("bert").tokenizer
        prompts = {"query": "", "document": "passage: "}
        self.encoder = SimpleNamespace(tokenizer=tokenizer, prompts=prompts, pooling="mean", one_string=False)
        self.batches: list = []

    def training_step(self, batch, batch_idx):
        self.batches.append(batch)
        return self.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    @property
    def seen(self) -> list[tuple[int, ...]]:
        return [tuple(batch.ids.anchor.tolist()) for batch in self.batches]


class SaveAt(lightning.Callback):
    """Saves after each optimizer step, and notes how many batches had been seen."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.seen: dict[int, int] = {}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step not in self.seen and trainer.global_step:
            self.seen[trainer.global_step] = len(pl_module.batches)
            trainer.save_checkpoint(self.folder / f"{trainer.global_step}.ckpt")


@pytest.fixture
def sentences(tmp_path: Path) -> str:
    path = tmp_path / "sentences.txt"
    path.write_text("".join(f"sentence number {i}\n" for i in range(ROWS)))
    return str(path)


def fit(data: EmbeddingDataModule, steps: int = 1, checkpoint: Path | None = None, **options) -> Recorder:
    module = Recorder()
    defaults = {
        "max_steps": steps,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
    }
    lightning.Trainer(**(defaults | options)).fit(module, data, ckpt_path=checkpoint)
    return module


def test_batches_are_views_of_tokens_with_prompts_lengths_and_ids(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"anchor": "a b c d e f g h", "positive": "p", "negative": "n", "score": 3}\n' * 4)
    data = EmbeddingDataModule(str(path), batch_size=4, max_length={"query": 5, "document": 12})
    (batch,) = fit(data).batches
    assert tuple(batch.anchor.input_ids.shape) == (4, 5)
    assert len(batch.negatives) == 1
    assert batch.score.tolist() == [3, 3, 3, 3]
    assert batch.ids.anchor.tolist() == [batch.ids.anchor[0].item()] * 4
    # The prompt stands before documents only.
    unprompted = TinyRandom("bert").tokenizer("p")["input_ids"]
    assert batch.positive.input_ids.shape[1] > len(unprompted)


@pytest.mark.parametrize("accumulation", [1, 2, 4, 7])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_resumed_after_any_step_goes_on_where_it_stood(sentences, tmp_path, accumulation, workers):
    def data() -> EmbeddingDataModule:
        return EmbeddingDataModule(sentences, batch_size=4, seed=3, num_workers=workers)

    save = SaveAt(tmp_path)
    steps = 8
    whole = fit(data(), steps, accumulate_grad_batches=accumulation, callbacks=[save]).seen
    first_epoch = Counter(row for batch in whole[:6] for row in batch)
    assert len(first_epoch) == first_epoch.total() == ROWS
    # With workers each run starts processes: the ends of an epoch, and the middle, are enough.
    for step in range(1, steps) if not workers else (3, 6):
        rest = fit(data(), steps, tmp_path / f"{step}.ckpt", accumulate_grad_batches=accumulation).seen
        assert rest == whole[save.seen[step] :], f"resumed after step {step}"


def test_the_checkpoint_holds_nothing_about_the_order(sentences, tmp_path):
    fit(EmbeddingDataModule(sentences, 4), 2, callbacks=[SaveAt(tmp_path)])
    checkpoint = torch.load(tmp_path / "2.ckpt", weights_only=False)
    assert checkpoint["loops"]["fit_loop"]["state_dict"].get("combined_loader", [{}]) == [{}]


def test_the_trainer_does_not_warn_about_the_loader_on_resume(sentences, tmp_path, recwarn):
    fit(EmbeddingDataModule(sentences, 4), 2, callbacks=[SaveAt(tmp_path)])
    fit(EmbeddingDataModule(sentences, 4), 4, tmp_path / "2.ckpt")
    assert not [w for w in recwarn if "not resumable" in str(w.message)]


def test_a_limit_of_the_trainer_cuts_epochs_but_loses_no_batch(sentences):
    whole = fit(EmbeddingDataModule(sentences, 4), 9).seen
    assert fit(EmbeddingDataModule(sentences, 4), 9, limit_train_batches=4).seen == whole
    assert fit(EmbeddingDataModule(sentences, 4), 9, limit_train_batches=0.5).seen == whole
    assert len(fit(EmbeddingDataModule(sentences, 4), 5, limit_train_batches=3, accumulate_grad_batches=2).seen) == 8


def test_dropout_does_not_depend_on_the_loader(sentences):
    torch.manual_seed(0)
    expected = torch.rand(3)
    data = EmbeddingDataModule(sentences, 4, num_workers=1)
    trainer = SimpleNamespace(
        world_size=1,
        global_rank=0,
        global_step=0,
        accumulate_grad_batches=1,
        limit_train_batches=1.0,
        overfit_batches=0,
        lightning_module=Recorder(),
    )
    data.trainer = trainer  # type: ignore[assignment]
    loader = data.train_dataloader()
    torch.manual_seed(0)
    assert len(list(loader)) == 6
    assert torch.equal(torch.rand(3), expected)


def test_sources_are_mixed_or_kept_apart(tmp_path):
    for name, count in (("a", 40), ("b", 20)):
        (tmp_path / f"{name}.txt").write_text("".join(f"{name}{i}\n" for i in range(count)))
    sources: list = [str(tmp_path / "a.txt"), Source(str(tmp_path / "b.txt"), weight=2.0)]
    data = EmbeddingDataModule(sources, 10)
    assert data.order.quotas == [30, 30]
    assert any("40 rows, 30 an epoch" in line for line in data.describe())
    apart = EmbeddingDataModule(sources, 10, single_source=True)
    for step in range(apart.order.steps_per_epoch):
        assert len({row < 40 for row in apart.order.batch(step)}) == 1


def test_rows_of_different_shape_need_batches_of_their_own(tmp_path):
    (tmp_path / "a.csv").write_text("anchor,positive\n" + "a,b\n" * 8)
    (tmp_path / "b.csv").write_text("anchor,positive,negative\n" + "c,d,e\n" * 8)
    sources: list = [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]
    with pytest.raises(UsageError, match="0 and 1 hard negatives a row.* Set data.single_source to true"):
        EmbeddingDataModule(sources, 4).setup("fit")
    seen = fit(EmbeddingDataModule(sources, 4, single_source=True), 4).batches
    assert sorted(len(batch) for batch in seen) == [2, 2, 3, 3]
    pairs = [sources[0], Source(sources[1], view="pair")]
    assert {len(batch) for batch in fit(EmbeddingDataModule(pairs, 4), 4).batches} == {2}


def test_roles_are_those_that_every_source_has(tmp_path):
    (tmp_path / "a.csv").write_text("anchor,positive,negative_1,negative_2\n" + "a,b,c,d\n" * 8)
    (tmp_path / "b.csv").write_text("anchor,positive,negative\n" + "c,d,e\n" * 8)
    (tmp_path / "c.csv").write_text("anchor,positive,score\n" + "c,d,0.5\n" * 8)
    paths: list = [str(tmp_path / f"{name}.csv") for name in "abc"]
    assert EmbeddingDataModule(paths[:2], 4, single_source=True).roles == (1, False)
    assert EmbeddingDataModule(paths[2], 4).roles == (0, True)
    all_three = EmbeddingDataModule(paths, 4, single_source=True)
    assert (all_three.roles, all_three.most_scores) == ((0, False), 1)
    assert EmbeddingDataModule(paths[0], 4).most_scores == 0


def test_mistakes_end_the_run_before_its_first_step(sentences):
    with pytest.raises(UsageError, match="batch_size 24 is larger than the 23 rows"):
        fit(EmbeddingDataModule(sentences, 24))
    with pytest.raises(UsageError, match="Set data.max_length"):
        EmbeddingDataModule(sentences, 4, max_length=0)
    with pytest.raises(UsageError, match="overfit_batches"):
        fit(EmbeddingDataModule(sentences, 4), overfit_batches=2)
    with pytest.raises(UsageError, match="data.ids"):
        fit(EmbeddingDataModule(sentences, 4, ids="none"))  # type: ignore[arg-type]


def test_another_sampler_over_ranks_is_refused(sentences):
    data = EmbeddingDataModule(sentences, 4)
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        world_size=2, _accelerator_connector=SimpleNamespace(use_distributed_sampler=True), overfit_batches=0
    )
    with pytest.raises(UsageError, match="Set trainer.use_distributed_sampler to false"):
        data.train_dataloader()


def test_the_description_shows_rows_roles_and_three_short_examples(tmp_path):
    path = tmp_path / "a.csv"
    rows = ["q1,d1", "q2,", f"q3,{'long ' * 50}", "q4,d4", "q5,d5"]
    path.write_text("query,answer\n" + "\n".join(rows) + "\n")
    lines = EmbeddingDataModule(str(path), 2).describe()
    assert lines[0] == f"{path}: 4 rows, 1 dropped as empty"
    assert lines[1] == "  UTF-8; comma between cells; quotes enclose cells; names in the first line"
    assert lines[2] == "  anchor = query; positive = answer (by name)"
    assert lines[3:5] == ["  1. query: q1", "  1. answer: d1"]
    assert lines[6] == "  2. answer: " + ("long " * 50)[:99] + "…"
    assert len(lines) == 9
    repeated = EmbeddingDataModule(
        str(path), 2, repetition=Repetition(rate=0.2, roles=("anchor", "positive"))
    ).describe()
    assert repeated == [*lines, "words are repeated in anchor and positive, at most 20% of them or 2"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("anchor;positive\na b;c d\ne;f\n".encode("utf-16"), "UTF-16-LE; semicolon between cells; quotes enclose cells; names in the first line"),
        (b"sep=|\nanchor|positive\na b|c d\ne|f\n", "UTF-8; pipe between cells; quotes enclose cells; names in the first line"),
        (b"anchor\tpositive\ra b\tc d\re\tf\r", "UTF-8, lines that end in a carriage return alone; tab between cells; quotes are text; names in"),
        (b"anchor,id,positive\na b,7,c d\ne,8,f\n", "anchor = anchor; positive = positive (by name; left out as identifiers: id)"),
    ],
)  # fmt: skip
def test_the_description_says_how_a_file_was_read(tmp_path, content, said):
    (tmp_path / "a.csv").write_bytes(content)
    lines = EmbeddingDataModule(str(tmp_path / "a.csv"), 2).describe()
    assert any(line.startswith(f"  {said}") for line in lines), lines
    assert lines[-4:-2] == ["  1. anchor: a b", "  1. positive: c d"]


def test_the_configuration_builds_it(sentences):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(EmbeddingDataModule, "data")
    config = parser.parse_object(
        {
            "data": {
                "sources": [sentences, {"path": "b.csv", "columns": {"anchor": 0, "negatives": ["x"]}, "view": "pair"}],
                "batch_size": 4,
                "max_length": {"query": 32, "document": 64},
            }
        }
    )
    data = parser.instantiate_classes(config).data
    assert data.sources == [Source(sentences), Source("b.csv", columns={"anchor": 0, "negatives": ["x"]}, view="pair")]
    assert parser.instantiate_classes(parser.parse_object({"data": {"sources": "a.txt", "batch_size": 2}})).data.sources


def configured(**data) -> EmbeddingDataModule:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(EmbeddingDataModule, "data")
    return parser.instantiate_classes(parser.parse_object({"data": {"batch_size": 4, "seed": 3, **data}})).data


def test_a_view_and_an_edit_of_a_user_are_named_by_class_path(sentences):
    def data() -> EmbeddingDataModule:
        view = {"class_path": f"{__name__}.Halves", "init_args": {"least": 3}}
        edits = [{"class_path": f"{__name__}.Dropped"}, {"class_path": "inbatch.data.edits.repetition.Repetition"}]
        return configured(sources=[{"path": sentences, "view": view}], edits=edits, repetition={"rate": 0.5})

    made = data()
    assert [type(edit).__name__ for edit in made.edits] == ["Repetition", "Dropped", "Repetition"]
    lines = made.describe()
    assert "  view: halves of texts of 3 words or more" in lines
    assert lines[-2:] == ["a word of whole is dropped", "words are repeated in anchor, at most 32% of them or 2"]
    batches = fit(made, 4).batches
    assert batches[0].names == batches[0].ids.names == ("anchor", "positive", "whole")
    assert batches[0].source.tolist() == [0] * 4

    def texts(batches) -> list:
        return [[view.input_ids.tolist() for view in batch] for batch in batches]

    assert texts(fit(data(), 4).batches) == texts(batches)


def test_a_run_with_views_and_edits_of_a_user_resumes_where_it_stood(sentences, tmp_path):
    def data() -> EmbeddingDataModule:
        return EmbeddingDataModule([Source(sentences, view=Halves())], 4, edits=[Dropped(("anchor", "whole"))])

    whole = fit(data(), 5, callbacks=[SaveAt(tmp_path)]).batches
    rest = fit(data(), 5, tmp_path / "2.ckpt").batches
    for batch, again in zip(whole[2:], rest, strict=True):
        assert all(torch.equal(a.input_ids, b.input_ids) for a, b in zip(batch, again, strict=True))


def test_an_edit_of_a_view_that_is_not_there_is_refused(sentences):
    with pytest.raises(
        UsageError, match="have, anchor, positive, as roles of the edit Dropped; got whole. Set roles of"
    ):
        EmbeddingDataModule(sentences, 4, edits=[Dropped()]).setup("fit")


def test_labels_scores_and_others_reach_the_batch(tmp_path):
    path = tmp_path / "a.jsonl"
    row = '{"q": "a", "d": "b", "n": ["c", "d"], "s": [1, 0.5, 0.25], "l": "x", "h": "e f"}\n'
    path.write_text(row * 3 + row.replace('"x"', "7"))
    columns = {
        "anchor": "q",
        "positive": "d",
        "negatives": ["n"],
        "score": "s",
        "label": "l",
        "others": {"history": "h"},
    }
    (batch,) = fit(configured(sources={"path": str(path), "columns": columns})).batches
    assert batch.names == ("anchor", "positive", "negative_1", "negative_2", "history")
    assert configured(sources={"path": str(path), "columns": columns}).others == ("history",)
    assert tuple(batch.score.shape) == (4, 3)
    assert batch.score[:, 0].tolist() == [1.0] * 4
    assert sorted({*batch.score[0, 1:].tolist()}) == [0.25, 0.5]
    assert 7 in batch.labels.tolist()
    assert len(set(batch.labels.tolist())) == 2


@pytest.mark.parametrize(
    ("second", "why"),
    [
        ({"others": {"context": "c"}}, "other texts"),
        ({"label": "k"}, "labels in one of them only"),
        ({"score": "s"}, "scores in one of them only, or of another number"),
    ],
)
def test_sources_with_other_texts_labels_or_scores_need_batches_of_their_own(tmp_path, second, why):
    (tmp_path / "a.csv").write_text("anchor,positive,c,k,s\n" + "a,b,c,1,0.5\n" * 8)
    columns: dict = {"anchor": "anchor", "positive": "positive"}
    sources: list = [Source(str(tmp_path / "a.csv"), columns=c) for c in (columns, columns | second)]
    with pytest.raises(UsageError, match=f"cannot stand in one batch: {why}. Set data.single_source to true"):
        EmbeddingDataModule(sources, 4).setup("fit")
    apart = EmbeddingDataModule(sources, 4, single_source=True)
    assert len(fit(apart, 4).batches) == 4
    assert apart.others == ()  # not of every row
