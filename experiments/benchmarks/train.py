"""``inbatch bench train``: a whole optimizer step beside sentence-transformers' cached loss, same model, same pairs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from inbatch import arithmetic
from inbatch.allocator import keep_freed_memory
from inbatch.errors import InbatchError, UsageError
from inbatch.experiments.benchmarks.timing import interleave, machine, notes, rows, summary, warn_of_noise
from inbatch.experiments.command import find_device
from inbatch.experiments.output import add_output_arguments, report, table
from inbatch.kernels import map_in_chunks
from inbatch.losses.contrastive.infonce import InfoNCE
from inbatch.text.tokens import tokenize
from inbatch.views import TokenBatch, Views

OURS = "inbatch"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> configure(parser)
        >>> args = parser.parse_args(["--pairs", "256"])
        >>> args.model, args.pairs, args.precision
        ('minilm', 256, 'both')
    """
    parser.description = (
        "Time a training step on docstring–code pairs of the environment: encoder forward and backward with gradient caching, and "
        "the loss. sentence-transformers' CachedMultipleNegativesRankingLoss does the same step, if it is installed. First the "
        "gate: both losses and gradients must agree."
    )
    parser.add_argument("--model", default="minilm", help="name or folder of a sentence encoder (default: minilm)")
    parser.add_argument("--pairs", type=int, default=1024, help="pairs in the batch (default: 1024)")
    parser.add_argument("--max-length", type=int, default=64, help="tokens of a text (default: 64)")
    parser.add_argument("--chunk-tokens", type=int, default=4096, help="tokens of a chunk, ours (default: 4096)")
    parser.add_argument(
        "--mini-batch", type=int, default=32, help="texts of a chunk, sentence-transformers (default: 32, its own)"
    )
    parser.add_argument("--precision", choices=["float32", "bfloat16", "both"], default="both", help="(default: both)")
    parser.add_argument("--repetitions", type=int, default=9, help="timed rounds (default: 9)")
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Gate, time, report.

    Raises:
        UsageError: if a number is below 1.
        MissingError: if the model is not there.
        InbatchError: if the gate finds that the two sides compute different things.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> configure(parser)
        >>> run(parser.parse_args(["--pairs", "0"]))
        Traceback (most recent call last):
        inbatch.errors.UsageError: expected --pairs, --max-length, --chunk-tokens, --mini-batch and --repetitions of at least 1
    """
    if min(args.pairs, args.max_length, args.chunk_tokens, args.mini_batch, args.repetitions) < 1:
        raise UsageError("expected --pairs, --max-length, --chunk-tokens, --mini-batch and --repetitions of at least 1")
    from inbatch.data.sources.environment import environment_pairs
    from inbatch.models.encoder import Encoder

    table_of_pairs = environment_pairs("train")
    anchors, positives = (list(table_of_pairs[column][: args.pairs]) for column in ("anchor", "positive"))
    if len(anchors) < args.pairs:
        raise UsageError(
            f"expected at most {len(anchors)} pairs, all that the environment has; got --pairs {args.pairs}"
        )
    keep_freed_memory()  # as `inbatch fit` does; it serves the peer, too
    device = torch.device(find_device())
    if device.type == "cpu":
        arithmetic.measured_rates()
    encoder = Encoder.from_pretrained(args.model).train().to(device)
    # Dropout draws differ between any two implementations; without it the gate can compare gradients.
    _no_dropout(encoder)
    absent: list[str] = []
    steps = {OURS: ours(encoder, anchors, positives, args)} | peers(args, anchors, positives, absent, device)
    gate = check(steps)
    lines, results = [], {}
    for precision in ("float32", "bfloat16") if args.precision == "both" else (args.precision,):
        timings = interleave({name: _under(precision, step, device) for name, step in steps.items()}, args.repetitions)
        results[precision] = summary(timings, OURS)
        warn_of_noise({f"{name} ({precision})": timing for name, timing in timings.items()})
        lines += [[f"{line[0]} ({precision})", *line[1:]] for line in rows(timings, OURS)]
    if not args.json:
        print(f"gate: losses and gradients agree, largest relative difference {gate:.1e}")
    title = (
        f"One step, {args.pairs} pairs, {args.model}, up to {args.max_length} tokens, {torch.get_num_threads()} threads"
    )
    result = {"pairs": args.pairs, "machine": machine(), "gate": gate, "timings": results, "skipped": absent}
    report(args, result, table(title, ["", "median s", "quartiles", "time ÷ ours"], lines, notes(absent)))


def ours(encoder: Any, anchors: list[str], positives: list[str], args: argparse.Namespace) -> Callable[[], tuple]:
    """Build our step; it tokenizes, too, as the peer does.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.models.encoder import Encoder
        >>> args = argparse.Namespace(max_length=16, chunk_tokens=64)
        >>> step = ours(Encoder(TinyRandom(dropout=0.0)), ["fog", "fog"], ["mist", "mist"], args)
        >>> loss, _ = step()
        >>> round(loss.item(), 4)  # the negative is no farther than the positive: log 2
        0.6931
    """
    objective = InfoNCE(temperature=0.05)

    def step() -> tuple[Tensor, dict[str, Tensor]]:
        views = Views(anchors, positives).map(lambda texts: tokenize(encoder.tokenizer, texts, args.max_length))
        encoder.zero_grad()
        flat = map_in_chunks(encoder, TokenBatch.cat(list(views)).to(encoder.device), budget=args.chunk_tokens)
        loss = objective(views.replace_payloads(flat.split(len(anchors))), views, encoder).loss
        loss.backward()
        return loss.detach(), gradients(encoder)

    return step


def peers(
    args: argparse.Namespace, anchors: list[str], positives: list[str], absent: list[str], device: torch.device
) -> dict[str, Callable[[], tuple]]:
    """Build sentence-transformers' step, if it is installed and loads the model.

    Example:
        >>> from unittest.mock import patch
        >>> absent = []
        >>> with patch.dict("sys.modules", {"sentence_transformers": None}):  # as where it is not installed
        ...     peers(argparse.Namespace(), [], [], absent, torch.device("cpu"))
        {}
        >>> absent
        ['sentence-transformers (pip install sentence-transformers)']
    """
    try:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.losses import CachedMultipleNegativesRankingLoss  # type: ignore[import-not-found]
    except ImportError:
        absent.append("sentence-transformers (pip install sentence-transformers)")
        return {}
    from inbatch.models.locate import locate

    model = SentenceTransformer(str(locate(args.model)), device=str(device)).train()
    model.max_seq_length = args.max_length
    _no_dropout(model)
    loss_module: Any = CachedMultipleNegativesRankingLoss(model, scale=20.0, mini_batch_size=args.mini_batch)

    def step() -> tuple[Tensor, dict[str, Tensor]]:
        features = [dict(model.tokenize(texts)) for texts in (anchors, positives)]
        features = [{k: v.to(model.device) if hasattr(v, "to") else v for k, v in f.items()} for f in features]
        model.zero_grad()
        loss = loss_module(features, torch.empty(0))
        loss.backward()
        return loss.detach(), gradients(model)

    return {f"sentence-transformers cached, mini-batch {args.mini_batch}": step}


def check(steps: dict[str, Callable[[], tuple]]) -> float:
    """Compare every contestant's loss and gradients with ours in float32.

    Returns:
        The largest relative difference: of the loss, and of the gradient of any weight against the largest of its entries.

    Raises:
        InbatchError: if one differs by more than 1e-3, or has other weights.

    Example:
        >>> gradient = {"weight": torch.ones(3)}
        >>> steps = {"inbatch": lambda: (torch.tensor(2.0), gradient), "peer": lambda: (torch.tensor(2.001), gradient)}
        >>> round(check(steps), 4)
        0.0005
        >>> check(steps | {"peer": lambda: (torch.tensor(2.0), {"weight": 1.5 * torch.ones(3)})})
        Traceback (most recent call last):
        inbatch.errors.InbatchError: the gate is red: peer differs from ours by 5.0e-01, relative; nothing was timed
    """
    loss, own = steps[OURS]()
    worst = 0.0
    for name, step in steps.items():
        other_loss, other = step()
        if other.keys() != own.keys():
            raise InbatchError(f"the gate is red: {name} trains other weights than ours; nothing was timed")
        # The bias of an attention's keys has no gradient but rounding: entries are compared with the largest of all weights' 1e-3.
        floor = 1e-3 * max(float(g.abs().max()) for g in own.values())
        differences = [float((other[w] - g).abs().max()) / max(float(g.abs().max()), floor) for w, g in own.items()]
        difference = max(float((other_loss - loss).abs() / loss), *differences)
        if not difference <= 1e-3:
            raise InbatchError(
                f"the gate is red: {name} differs from ours by {difference:.1e}, relative; nothing was timed"
            )
        worst = max(worst, difference)
    return worst


def gradients(module: torch.nn.Module) -> dict[str, Tensor]:
    """Copy the gradients, by what the weights' names have in common on both sides: all after the transformers network.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> backbone = TinyRandom(hidden_size=8)
        >>> backbone.network.get_input_embeddings()(torch.tensor([5])).sum().backward()
        >>> {name: gradient.sum().item() for name, gradient in gradients(backbone).items()}  # one for each of a row's 8 entries
        {'embeddings.word_embeddings.weight': 8.0}
    """
    network = next(m for m in module.modules() if isinstance(m, PreTrainedModel))
    return {name: p.grad.float().clone() for name, p in network.named_parameters() if p.grad is not None}


def _no_dropout(module: torch.nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0


def _under(precision: str, step: Callable[[], Any], device: torch.device) -> Callable[[], Any]:
    def run() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            step()

    return run
