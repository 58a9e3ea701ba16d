"""``inbatch synthesize``: what a training needs and is computed once, before it: scores of the model as it is before that training."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from inbatch.arguments import Parser
from inbatch.errors import UsageError
from inbatch.experiments.output import prepare_file

if TYPE_CHECKING:
    from inbatch.losses.generative.reference_scores import ReferenceScores
    from inbatch.run.options import FitCLI

DESCRIPTION = """Compute once, before a training, what it needs.

  inbatch synthesize reference-scores --config ... [...]   the options of the `inbatch fit` that will read them: scores every anchor
                                                           with its positives and hard negatives by the model as it starts, and
                                                           keeps the scores by text in the file of objective.reference"""
EPILOG = """example:
  inbatch synthesize reference-scores --config autoregembed/cpu-stage2.yaml

The same command goes on where it was stopped, and adds what is missing after the data has grown."""
KINDS = ("reference-scores",)
# Rows scored at a time, and seconds between two saves.
ROWS = 512
SAVE_EVERY = 60.0


def main(arguments: Sequence[str]) -> int:
    """Run the verb; the options of a run are the parser's of ``inbatch fit``.

    Example:
        >>> main(["reference-scores"])
        Traceback (most recent call last):
        inbatch.errors.UsageError: expected the options of a run, as `inbatch fit` takes them; got none. Add --config …
    """
    parser = Parser(prog="inbatch synthesize", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("kind", choices=KINDS, metavar="KIND", help="reference-scores")
    parser.add_argument("--fresh", action="store_true", help="score everything anew")
    args, run = parser.parse_known_args(list(arguments))
    if not run:
        raise UsageError("expected the options of a run, as `inbatch fit` takes them; got none. Add --config …")
    scores, added = reference_scores(run, args.fresh)
    mean = float(scores.scores.mean()) if len(scores) else float("nan")
    print(f"{scores.path}: {len(scores):,} scores, {added:,} of them new; mean log-likelihood {mean:.3f}")
    return 0


def reference_scores(arguments: Sequence[str], fresh: bool = False) -> tuple[ReferenceScores, int]:
    r"""Score what a run will train on by its model as it starts, and write the file that the run's objective names.

    Args:
        arguments: of ``inbatch fit``.
        fresh: leave an existing file out of account.

    Returns:
        The scores, and how many of them are new.

    Raises:
        UsageError: if the arguments are wrong, the objective takes no reference scores, or the file holds those of another model.
        MissingError: if a file, data set or model is not there.

    Example:
        >>> _ = Path("weather.csv").write_text("anchor,positive,negative\nfog,a cloud,a wine\nwind,moving air,a watch\n")
        >>> options = ["--model.encoder=Encoder", "--model.encoder.backbone=TinyRandom", "--model.encoder.backbone.kind=llama"]
        >>> options += ["--model.encoder.backbone.learned_tokens=2", "--model.encoder.pooling=learned"]
        >>> options += ["--model.encoder.prompts={query: '{text}{learned}', document: '{text}{learned}'}"]
        >>> options += ["--model.objective=DistributionAlignment", "--model.objective.decoder=TinyDecoder"]
        >>> options += ["--model.objective.reference=scores.safetensors", "--model.optimizer=torch.optim.AdamW", "--trainer.max_steps=1"]
        >>> options += ["--trainer.accelerator=cpu", "--trainer.precision=32-true", "--data.sources=weather.csv", "--data.batch_size=2"]
        >>> scores, added = reference_scores(options, fresh=True)
        >>> Path("scores.safetensors").is_file(), len(scores), added  # two texts of each of two anchors
        (True, 4, 4)
    """
    from inbatch.experiments.doctor.rehearsal import silence
    from inbatch.run.config import locate_configs
    from inbatch.run.options import FitCLI
    from inbatch.run.remedies import said_as_typed

    silence()
    cli = FitCLI(locate_configs(arguments)[0])
    with said_as_typed(cli.config, arguments):
        return _reference_scores(cli, fresh)


def _reference_scores(cli: FitCLI, fresh: bool) -> tuple[ReferenceScores, int]:
    from inbatch.losses.generative.distribution_alignment import DistributionAlignment
    from inbatch.losses.generative.reference_scores import ReferenceScores
    from inbatch.models.training.data_checks import facts_of_batches

    cli.build()
    module: Any = cli.model
    data: Any = cli.datamodule
    objective = module.objective
    if not isinstance(objective, DistributionAlignment):
        raise UsageError(
            f"expected an objective that reads reference scores, DistributionAlignment; got {type(objective).__name__}. Give the options "
            "of the stage that will read them."
        )
    path = objective.reference
    trainer: Any = cli.instantiate_trainer(logger=False, enable_progress_bar=False)
    if trainer.world_size > 1:
        raise UsageError(
            f"reference scores are computed by one process; got {trainer.world_size} ranks. Set --trainer.devices=1 --trainer.num_nodes=1."
        )
    objective.prepare(facts_of_batches(data, 1, trainer.precision))
    prepare_file(path, ".safetensors")
    known = ReferenceScores(torch.empty(0, dtype=torch.int64), torch.empty(0), objective.made_with, path)
    if not fresh and Path(path).is_file():
        known = ReferenceScores.load(path)
        known.require_made_with(objective.made_with)
    module = trainer.precision_plugin.convert_module(module).to(trainer.strategy.root_device).eval()
    with trainer.precision_plugin.forward_context():
        return _scored(module, data, known)


def _scored(module: Any, data: Any, known: ReferenceScores) -> tuple[ReferenceScores, int]:
    from tqdm import tqdm

    from inbatch.losses.generative.reference_scores import ReferenceScores

    added, saved = 0, time.monotonic()
    keys, scores = [known.keys], [known.scores]

    def whole() -> ReferenceScores:
        return ReferenceScores(torch.cat(keys), torch.cat(scores), known.facts, known.path)

    total = sum(len(table) for table in data.tables)
    try:
        with tqdm(total=total, unit="row", desc="reference scores", file=sys.stderr) as bar:
            for rows, pairs in _missing(data, known):
                if pairs:
                    found = _score(module, data, pairs)  # before its keys: what stops it must leave both alike
                    keys.append(torch.tensor(list(pairs)))
                    scores.append(found)
                    added += len(pairs)
                bar.update(rows)
                if time.monotonic() - saved > SAVE_EVERY:
                    whole().save(known.path)
                    saved = time.monotonic()
    finally:
        if added:
            whole().save(known.path)
    return whole(), added


# A pair by its key: instruction, anchor, text.
_Pairs = dict[int, tuple[str | None, str, str]]


def _missing(data: Any, known: ReferenceScores) -> Iterator[tuple[int, _Pairs]]:
    """Yield how many rows were read, and those of their pairs that have no score yet, each once."""
    from inbatch.data.views.rows import pairs_of
    from inbatch.losses.generative.reference_scores import pair_keys
    from inbatch.text.ids import text_id

    done: set[int] = set()
    rows = iter(pairs_of(data.tables))
    while block := list(islice(rows, ROWS)):
        listed = [(instruction, anchor, text) for instruction, texts in block for anchor, text in texts]
        ids = torch.tensor(
            [[text_id(anchor), text_id(text), 0 if asked is None else text_id(asked)] for asked, anchor, text in listed]
        )
        keys = pair_keys(*ids.unbind(1))
        there, _ = known.find(keys)
        pairs = {
            key: pair for key, has, pair in zip(keys.tolist(), there.tolist(), listed) if not has and key not in done
        }
        done.update(pairs)
        yield len(block), pairs


@torch.no_grad()
def _score(module: Any, data: Any, pairs: _Pairs) -> Tensor:
    """Compute ``log p(text | anchor)`` of pairs, (n,) float32 on the CPU; each anchor is embedded once."""
    from inbatch.kernels import map_in_chunks
    from inbatch.losses.generative.compression import likelihoods, targets_of

    encoder, objective, device = module.encoder, module.objective, module.device
    collate = data.collate(encoder)
    wanted, which = {}, []
    for instruction, anchor, _ in pairs.values():
        which.append(wanted.setdefault((instruction, anchor), len(wanted)))
    queries = collate.side("query", [anchor for _, anchor in wanted], _all([asked for asked, _ in wanted])).to(device)
    states = map_in_chunks(encoder.at_learned, queries, budget=module.chunk_tokens)
    texts, asked = [text for _, _, text in pairs.values()], [instruction for instruction, _, _ in pairs.values()]
    targets = targets_of(collate.side("document", texts, _all(asked)).to(device), objective.decoder)
    rows = torch.tensor(which, device=device)
    return likelihoods(objective.decoder, states[rows], targets, module.chunk_tokens).float().cpu()


def _all(instructions: list[str | None]) -> list[str] | None:
    return None if None in instructions else [str(instruction) for instruction in instructions]
