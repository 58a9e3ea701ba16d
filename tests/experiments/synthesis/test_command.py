"""Reference scores: equal to the plain computation, resumed, added to, and refused where they are of another model."""

from __future__ import annotations

import shlex
from pathlib import Path

import known_rates
import pytest
import torch
import yaml

from inbatch import cli
from inbatch.errors import UsageError
from inbatch.experiments.synthesis import command as synthesize
from inbatch.experiments.synthesis.command import reference_scores
from inbatch.losses.generative.compression import sequence_log_likelihood
from inbatch.losses.generative.reference_scores import ReferenceScores, pair_keys
from inbatch.run.options import FitCLI
from inbatch.text.ids import text_id

ROWS = 12


def write(folder: Path, rows: int = ROWS, **data) -> list[str]:
    """Write triples and the options of a run on them."""
    lines = [f"q{i},what {i} says,what it {'never ' * (i % 3)}says" for i in range(rows)]
    (folder / "triples.csv").write_text("anchor,positive,negative\n" + "\n".join(lines) + "\n")
    prompt = "{text}\n{learned}"
    run = {
        "trainer": {"accelerator": "cpu", "devices": 1, "max_steps": 2, "enable_progress_bar": False, "log_every_n_steps": 1},
        "model": {
            "encoder": {
                "class_path": "inbatch.models.encoder.Encoder",
                "init_args": {
                    "backbone": {
                        "class_path": "inbatch.models.backbones.pretrained.TinyRandom", "init_args": {"kind": "llama", "learned_tokens": 2},
                    },
                    "pooling": "learned",
                    "prompts": {"query": prompt, "document": prompt},
                },
            },
            "objective": {
                "class_path": "inbatch.losses.generative.distribution_alignment.DistributionAlignment",
                "init_args": {
                    "decoder": {"class_path": "inbatch.models.networks.decoder.TinyDecoder"}, "reference": str(folder / "scores.safetensors"),
                },
            },
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3}},
            "chunk_tokens": 64,
        },
        "data": {"sources": str(folder / "triples.csv"), "batch_size": 4, "max_length": 24, **data},
    }  # fmt: skip
    (folder / "run.yaml").write_text(yaml.safe_dump(run))
    return ["--config", str(folder / "run.yaml")]


def plainly(options: list[str], anchor: str, text: str, instruction: str | None = None) -> torch.Tensor:
    """Compute one score by itself, (1,)."""
    run = FitCLI(options)
    run.build()
    encoder, decoder = run.model.encoder.eval(), run.model.objective.decoder
    asked = None if instruction is None else [instruction]
    states = encoder.at_learned(run.datamodule.collate(encoder).side("query", [anchor], asked))
    ids = [*encoder.tokenizer(text, add_special_tokens=False)["input_ids"], decoder.tokenizer.eos_token_id]
    embedded = decoder.network.get_input_embeddings()(torch.tensor([ids]))
    logits = decoder.network(inputs_embeds=torch.cat([states, embedded], 1)).logits
    return sequence_log_likelihood(logits, torch.tensor([[-100, -100, *ids]])).detach()


def kept(folder: Path, *texts: str) -> torch.Tensor:
    """Read the score of an anchor and a text, and an instruction where there is one, (1,)."""
    key = pair_keys(*(torch.tensor([text_id(text)]) for text in texts))
    there, found = ReferenceScores.load(folder / "scores.safetensors").find(key)
    assert there.all()
    return found


def test_scores_are_the_log_likelihoods_of_the_texts_behind_their_anchors(tmp_path):
    options = write(tmp_path)
    table, added = reference_scores(options)
    assert (len(table), added) == (2 * ROWS, 2 * ROWS)
    for i in (0, 5):
        for text in (f"what {i} says", f"what it {'never ' * (i % 3)}says"):
            expected = plainly(options, f"q{i}", text)
            torch.testing.assert_close(kept(tmp_path, f"q{i}", text), expected, rtol=1e-4, atol=1e-5)


def test_a_stopped_run_is_gone_on_with_and_new_rows_are_added(tmp_path, monkeypatch):
    options = write(tmp_path)
    monkeypatch.setattr(synthesize, "ROWS", 5)
    original, calls = synthesize._score, []

    def stop(*arguments):
        if len(calls) == 1:
            raise KeyboardInterrupt
        calls.append(1)
        return original(*arguments)

    monkeypatch.setattr(synthesize, "_score", stop)
    with pytest.raises(KeyboardInterrupt):
        reference_scores(options)
    monkeypatch.setattr(synthesize, "_score", original)
    table, added = reference_scores(options)
    assert (len(table), added) == (2 * ROWS, 2 * ROWS - 10)
    table, added = reference_scores(write(tmp_path, ROWS + 3))
    assert (len(table), added) == (2 * ROWS + 6, 6)
    assert reference_scores(options, fresh=True)[1] == 2 * ROWS + 6


def test_the_run_reads_them_whatever_the_order_of_its_rows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = write(tmp_path)
    assert cli.main(["fit", *options, "--fresh=true"]) == 3
    command = capsys.readouterr().err.partition("Make them with the arguments of this run: inbatch ")[2]
    assert shlex.split(command) == ["synthesize", "reference-scores", *options]
    assert cli.main(shlex.split(command)) == 0
    assert "24 scores, 24 of them new" in capsys.readouterr().out
    lines = (tmp_path / "triples.csv").read_text().splitlines()
    (tmp_path / "triples.csv").write_text("\n".join([lines[0], *lines[:3:-1]]) + "\n")
    assert cli.main(["fit", *options]) == 0
    write(tmp_path, ROWS + 1)
    assert cli.main(["fit", *options, "--seed_everything=1", "--run_dir=more"]) == 2
    assert "made with encoder" in capsys.readouterr().err  # another seed draws other tokens
    assert cli.main(["fit", *options, "--run_dir=more"]) == 2
    said = capsys.readouterr().err
    assert "2 of 26 have none" in said
    assert f"inbatch synthesize reference-scores {shlex.join(options)} --run_dir=more; they are kept by text" in said


def test_each_instruction_has_a_score_with_its_anchor(tmp_path):
    options = write(tmp_path)
    sources = ", ".join(
        f"{{path: {tmp_path / 'triples.csv'}, instruction: {text}}}" for text in ("Say it.", "Sing it.")
    )
    prompts = '--model.encoder.init_args.prompts={query: "{text} {instruction}{learned}", document: "{text}{learned}"}'
    both = [*options, f"--data.sources=[{sources}]", prompts]
    table, added = reference_scores(both)
    assert (len(table), added) == (4 * ROWS, 4 * ROWS)
    for instruction in ("Say it.", "Sing it."):
        expected = plainly(both, "q5", "what 5 says", instruction)
        torch.testing.assert_close(kept(tmp_path, "q5", "what 5 says", instruction), expected, rtol=1e-4, atol=1e-5)
    assert cli.main(["fit", *both, f"--run_dir={tmp_path / 'run'}"]) == 0


def test_scores_and_run_under_auto_agree_and_another_machine_is_told_what_to_type(tmp_path, capsys, monkeypatch):
    options = [*write(tmp_path), "--trainer.precision=auto"]
    known_rates.stub(monkeypatch, "bfloat16")
    reference_scores(options)
    assert cli.main(["fit", *options, f"--run_dir={tmp_path / 'same'}"]) == 0
    known_rates.stub(monkeypatch, "float32")
    capsys.readouterr()
    assert cli.main(["fit", *options, f"--run_dir={tmp_path / 'other'}"]) == 2
    message = capsys.readouterr().err
    assert "made with precision = '32-true'" in message
    assert "Set --trainer.precision=bf16-mixed, or name another file" in message
    assert not (tmp_path / "other").exists()
    typed = message.partition("Set ")[2].partition(",")[0]
    assert cli.main(["fit", *options, typed, f"--run_dir={tmp_path / 'other'}"]) == 0


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("--data.max_length=20", "max_length"),
        ("--trainer.precision=bf16-mixed", "precision"),
        ("--model.objective.init_args.decoder.init_args.seed=9", "decoder"),
    ],
)
def test_scores_of_other_lengths_or_another_decoder_are_refused(change, word, tmp_path, capsys):
    options = write(tmp_path)
    reference_scores(options)
    assert cli.main(["fit", *options, change, f"--run_dir={tmp_path / 'run'}"]) == 2
    assert f"made with {word} = " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "expected the options of a run"),
        (["--model.objective=inbatch.losses.contrastive.infonce.InfoNCE"], "DistributionAlignment; got InfoNCE"),
        (["--trainer.devices=2", "--trainer.strategy=ddp"], "by one process; got 2 ranks"),
        (["--model.objective.init_args.reference=scores.json"], "ends in .safetensors"),
        (["--data.ids=position"], "Set --data.ids=text"),
    ],
)
def test_refusals(options, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = write(tmp_path) if options else []
    with pytest.raises(UsageError, match=words):
        synthesize.main(["reference-scores", *given, *options])


def test_the_help_teaches(capsys):
    assert cli.main(["synthesize", "--help"]) == 0
    assert "objective.reference" in capsys.readouterr().out
    assert cli.main(["synthesize", "reference-score", "--config", "x"]) == 2
    assert "Did you mean reference-scores" in capsys.readouterr().err
