"""``inbatch search``: the nearest texts of a corpus, exactly, by the cosine of embeddings."""

from __future__ import annotations

import argparse
import hashlib
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from inbatch.errors import UsageError
from inbatch.experiments.command import add_encoder_arguments, describe_encoder, load_encoder, read_lines
from inbatch.experiments.evaluation.corpus import add_source_arguments, read_corpus, source_arguments
from inbatch.experiments.output import add_output_arguments, prepare_file, report
from inbatch.text.texts import mended

if TYPE_CHECKING:
    from torch import Tensor

    from inbatch.models.encoder import Encoder

_WIDTH = 100


def nearest(query: Tensor, corpus: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Find the ``top`` rows of ``corpus`` (n, d) with the largest cosine with each row of ``query`` (q, d).

    A row of zeros has cosine 0 with everything.

    Returns:
        Cosines (q, k) in float32 and indices (q, k), best first, with k = min(top, n). The (q, n) matrix is made in blocks.

    Raises:
        TrainingError: if an embedding is not finite.
        UsageError: if ``top`` is below 1.

    Example:
        >>> import torch
        >>> query, corpus = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0], [3.0, 0.0], [3.0, 4.0]])
        >>> nearest(query, corpus, top=2)
        (tensor([[1.0000, 0.6000]]), tensor([[1, 2]]))
    """
    from inbatch.kernels import hardest
    from inbatch.metrics import require_finite
    from inbatch.norms import unit_rows

    if top < 1:
        raise UsageError(f"expected at least 1 text to find; got top={top}. Set --top.")
    query = unit_rows(require_finite(query, "query embeddings"))
    corpus = unit_rows(require_finite(corpus, "corpus embeddings"))
    return hardest(query, corpus, min(top, len(corpus)), own=None)


def search(
    encoder: Encoder, queries: Sequence[str], corpus: Sequence[str], top: int = 5, **encode: Any
) -> tuple[Tensor, Tensor]:
    """Encode both sides with the model's prompts, and find each query's nearest texts.

    Args:
        encoder: the model.
        queries: q texts.
        corpus: n texts.
        top: how many to find.
        **encode: ``max_length``, ``token_budget`` and ``progress`` of `Encoder.encode`.

    Returns:
        Cosines (q, k) in float32 and indices into ``corpus`` (q, k), best first, with k = min(top, n).

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.models.encoder import Encoder
        >>> cosines, places = search(Encoder(TinyRandom()), ["wind"], ["fog", "rain", "wind"], top=1)
        >>> places  # an untrained network finds equal texts
        tensor([[2]])
        >>> round(cosines.item(), 4)
        1.0
    """
    documents = encoder.encode(corpus, prompt_name="document", **encode)
    return nearest(encoder.encode(queries, prompt_name="query", **encode), documents, top)


def cached_documents(encoder: Encoder, texts: Sequence[str], name: str, **encode: Any) -> Tensor:
    """Encode texts with the prompt ``document``, or take them from the cache where the same model has encoded them before.

    The cache keeps one array a ``name``, made anew when texts, weights, tokenizer or a setting that changes vectors change.

    Example:
        >>> from pathlib import Path
        >>> from unittest.mock import patch
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.models.encoder import Encoder
        >>> encoder = Encoder(TinyRandom(hidden_size=16))
        >>> with patch.dict("os.environ", INBATCH_CACHE="cache"):
        ...     made = cached_documents(encoder, ["fog", "wind"], "weather")
        ...     with patch.object(encoder, "encode"):  # not asked again
        ...         kept = cached_documents(encoder, ["fog", "wind"], "weather")
        >>> kept.shape, kept.equal(made)
        (torch.Size([2, 16]), True)
    """
    import pyarrow as pa
    import torch

    from inbatch.cache import cached_table

    kind = pa.list_(pa.float32(), encoder.dim)

    def make() -> list[pa.RecordBatch]:
        if encode.get("progress"):
            length = encode.get("max_length") or encoder.max_length
            print(f"encoding {len(texts):,} texts of at most {length} tokens, once: they are kept", file=sys.stderr)
        rows = encoder.encode(texts, prompt_name="document", **encode)
        return [pa.record_batch([pa.FixedSizeListArray.from_arrays(rows.flatten().numpy(), type=kind)], ["embedding"])]

    key = _fingerprint(encoder, texts, encode.get("max_length"))
    table = cached_table(name, key, pa.schema({"embedding": kind}), make)
    rows = table.data.column("embedding").combine_chunks().flatten().to_numpy()
    return torch.from_numpy(rows.copy()).view(len(texts), encoder.dim)


def _fingerprint(encoder: Encoder, texts: Sequence[str], max_length: int | None) -> str:
    import torch

    from inbatch.models.export.state import describe_parts
    from inbatch.text.tokens import tokenize

    prompt = encoder.prompts["document"]
    settings = (
        repr(encoder),
        encoder.pooling,
        encoder.normalize,
        prompt,
        max_length or encoder.max_length,
        describe_parts(encoder),
        encoder.instruction,
        encoder.backbone.bidirectional,
    )
    vocabulary = sorted(encoder.tokenizer.get_vocab().items())
    # Tokenizers of one vocabulary may still cut differently; a sample shows it.
    sample = tokenize(encoder.tokenizer, texts[:256], max_length or encoder.max_length, prompt).input_ids.tolist()
    digest = hashlib.sha256(repr((settings, encoder.backbone.config.to_dict(), vocabulary, sample)).encode())
    for key, tensor in sorted(encoder.state_dict().items()):
        digest.update(key.encode() + tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    for text in texts:
        data = text.encode("utf8", "surrogatepass")
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``inbatch search``.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> configure(parser)
        >>> args = parser.parse_args(["minilm", "news.txt", "--query", "stock prices", "--query", "a dog on a beach"])
        >>> args.query, args.top
        (['stock prices', 'a dog on a beach'], 5)
    """
    parser.description = (
        "Find the texts of a corpus that are nearest to each query: exact, by the cosine of embeddings.\n"
        "The corpus is encoded once and kept in the cache folder; the same search again starts at once."
    )
    parser.epilog = (
        "examples:\n  inbatch search minilm sentences.txt --query 'a dog on a beach' --query 'stock prices' --top 3\n"
        "  inbatch search runs/my-run/export environment --query 'eigenvalues of a symmetric matrix'\n"
        "  cat queries.txt | inbatch search minilm corpus.jsonl --json"
    )
    add_encoder_arguments(parser)
    add_source_arguments(parser, "corpus", "all of environment, train of others")
    parser.add_argument(
        "--query",
        action="append",
        metavar="TEXT",
        help="what to look for; may be given again (default: lines of stdin)",
    )
    parser.add_argument("--top", type=int, default=5, metavar="K", help="how many texts to find (default: %(default)s)")
    parser.add_argument("--no-cache", action="store_true", help="encode the corpus anew, and keep nothing")
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> None:
    r"""Search a corpus.

    Example:
        >>> from pathlib import Path
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.models.encoder import Encoder
        >>> _ = Encoder(TinyRandom()).save_pretrained("export")
        >>> _ = Path("weather.txt").write_text("fog\nrain\nwind\n")
        >>> parser = argparse.ArgumentParser()
        >>> configure(parser)
        >>> run(parser.parse_args(["export", "weather.txt", "--query", "wind", "--top", "1", "--no-cache"]))
        wind
          1  1.000  row 2
                    wind
    """
    prepare_file(args.out)
    if args.top < 1:
        raise UsageError(f"expected --top of at least 1; got {args.top}.")
    queries = [mended(query) for query in args.query or ()] or [line for line in read_lines("-") if line.strip()]
    corpus = read_corpus(**source_arguments(args))
    encoder = load_encoder(args, "query", "document")
    encode = {"max_length": args.max_length, "token_budget": args.token_budget, "progress": True}
    print(f"searching {len(corpus.texts):,} texts of {args.source} on {encoder.device}", file=sys.stderr)
    if args.no_cache:
        documents = encoder.encode(corpus.texts, prompt_name="document", **encode)
    else:
        name = hashlib.sha256(repr((args.path, args.source, args.split)).encode()).hexdigest()[:12]
        documents = cached_documents(encoder, corpus.texts, f"search-{name}", **encode)
    query = encoder.encode(queries, prompt_name="query", token_budget=args.token_budget, max_length=args.max_length)
    found = nearest(query, documents, args.top)
    result = {
        **describe_encoder(args.path, encoder),
        "source": args.source,
        "documents": len(corpus.texts),
        "searches": [
            {
                "query": text,
                "hits": [
                    {"score": round(score, 6), "where": corpus.places[i], "text": corpus.texts[i]}
                    for score, i in zip(scores, indices)
                ],
            }
            for text, scores, indices in zip(queries, found[0].tolist(), found[1].tolist())
        ],
    }
    report(args, result, _screen(result["searches"]))


def _screen(searches: list[dict[str, Any]]) -> str:
    lines = []
    for item in searches:
        lines += ["", item["query"]]
        for rank, hit in enumerate(item["hits"], 1):
            lines += [f"{rank:>3}  {hit['score']:.3f}  {hit['where']}", f"            {first_line(hit['text'])}"]
    return "\n".join(lines[1:])


def first_line(text: str) -> str:
    r"""Return the line that shows best what a text is: of code the definition, else the first that is not blank, cut to the screen.

    Example:
        >>> first_line("@cache\ndef parse(date):\n    return ...\n")
        'def parse(date):'
        >>> first_line("\n  Fog is a cloud.\nIt touches the ground.\n")
        'Fog is a cloud.'
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    definition = next((line for line in lines if line.startswith(("def ", "async def ", "class "))), None)
    return textwrap.shorten(
        definition if lines[0].startswith("@") and definition else lines[0], _WIDTH, placeholder=" ..."
    )
