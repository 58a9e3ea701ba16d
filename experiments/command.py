"""What the commands that run an encoder share: the arguments that say which one and how, and loading it."""

from __future__ import annotations

import argparse
import sys
from types import ModuleType
from typing import Any

from inbatch.errors import MissingError, UsageError
from inbatch.text.templates import INSTRUCTION


def add_encoder_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the model's path, its device, and how texts are cut and batched.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_encoder_arguments(parser)
        >>> args = parser.parse_args(["runs/news/export", "--max-length", "64"])
        >>> args.path, args.max_length, args.device
        ('runs/news/export', 64, 'auto')
    """
    parser.add_argument(
        "path", metavar="PATH", help="the folder of a run or of an export, a Hugging Face name or folder, or `minilm`"
    )
    parser.add_argument(
        "--pooling", metavar="NAME", help="cls, mean, last, … of a plain network (default: what PATH says, else mean)"
    )
    parser.add_argument(
        "--instruction", metavar="TEXT", help="what to ask for, where the model's prompts have a place for it"
    )
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1, mps; auto takes a GPU if there is one (default)"
    )
    parser.add_argument(
        "--max-length", type=int, metavar="TOKENS", help="tokens kept of each text (default: the model's own limit)"
    )
    parser.add_argument(
        "--token-budget",
        type=int,
        default=16384,
        metavar="TOKENS",
        help="padded tokens in one batch: lower it if memory runs out (default: %(default)s)",
    )


def load_encoder(args: argparse.Namespace, *prompts: str | None) -> Any:
    """Load ``args.path`` and move it to ``args.device``.

    Args:
        args: parsed, of `add_encoder_arguments`.
        prompts: names of the prompts that texts will be encoded with; None is the model's default.

    Raises:
        UsageError: if a length, budget or device cannot be used, or none of the prompts has a place for ``args.instruction``.
        MissingError: if the model is not there.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.models.encoder import Encoder
        >>> _ = Encoder(TinyRandom(hidden_size=16), pooling="cls").save_pretrained("export")
        >>> parser = argparse.ArgumentParser()
        >>> add_encoder_arguments(parser)
        >>> encoder = load_encoder(parser.parse_args(["export"]), "query", "document")
        >>> encoder.pooling, encoder.dim
        ('cls', 16)
    """

    for name in ("max_length", "token_budget"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UsageError(f"expected --{name.replace('_', '-')} of at least 1; got {value}.")
    device = find_device(args.device)
    from inbatch.models.encoder import Encoder

    encoder = Encoder.from_pretrained(args.path, pooling=args.pooling).to(device)
    encoder.instruction = args.instruction
    if args.instruction is not None and not any(_asks(encoder, name) for name in prompts):
        able = [name for name in [*encoder.prompts, *encoder.ensembles] if _asks(encoder, name)]
        used = " and ".join(name or "that is used by default" for name in prompts)
        remedy = "Leave it out."
        if able:
            remedy = f"Its prompt {able[0]} has one: `inbatch encode` takes it with --prompt-name {able[0]}."
        raise UsageError(
            f"expected a place for --instruction in the prompt {used} of {args.path}; there is none. {remedy}"
        )
    return encoder


def _asks(encoder: Any, name: str | None) -> bool:
    """Say whether a prompt, or one of an ensemble, has a place for an instruction; None is the default."""
    name = encoder.default_prompt if name is None else name
    return any(INSTRUCTION in encoder.prompts.get(member or "", "") for member in encoder.ensembles.get(name, [name]))


def find_device(name: str = "auto") -> str:
    """Return the device's name, ``auto`` resolved.

    Raises:
        UsageError: if it is no device of this machine.

    Example:
        >>> find_device("cpu")
        'cpu'
        >>> find_device() in ("cpu", "cuda")
        True
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"expected --device to be one of this machine; got {name!r}: {reason}") from None
    return name


def describe_encoder(path: str, encoder: Any) -> dict[str, Any]:
    """Name what was evaluated, for a result file.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.models.encoder import Encoder
        >>> describe_encoder("runs/news", Encoder(TinyRandom(hidden_size=16)))
        {'model': 'runs/news', 'pooling': 'mean', 'dim': 16, 'device': 'cpu'}
    """
    return {"model": path, "pooling": encoder.pooling, "dim": encoder.dim, "device": str(encoder.device)}


def headline(result: dict[str, Any]) -> str:
    """Name what was evaluated in one line, from what `describe_encoder` put into a result.

    Example:
        >>> headline({"model": "minilm", "pooling": "mean", "dim": 384, "device": "cpu"})
        'minilm: mean pooling, 384 dimensions, on cpu'
    """
    return f"{result['model']}: {result['pooling']} pooling, {result['dim']} dimensions, on {result['device']}"


def read_lines(path: str) -> list[str]:
    r"""Read the lines of a text file, or of stdin if ``path`` is ``-``; a blank line counts, the end of the last is no line.

    It is UTF-8 unless a byte order mark says UTF-16 or UTF-32, which is said on stderr; the file may be compressed.

    Raises:
        MissingError: if there is no such file.
        UsageError: if it is empty, a folder, damaged, or in no encoding that can be told.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("questions.txt").write_text("what is fog\n\nwhat is wind\n")
        >>> read_lines("questions.txt")
        ['what is fog', '', 'what is wind']
    """
    from inbatch.data.formats.decoding import decode
    from inbatch.data.formats.opening import open_bytes

    name = "stdin" if path == "-" else path
    try:
        content = sys.stdin.buffer.read() if path == "-" else open_bytes(path).read()
    except FileNotFoundError:
        raise MissingError(
            f"expected a file of texts at {path}; there is none. Make it with `printf 'one text a line\\n' > {path}`."
        ) from None
    except (IsADirectoryError, PermissionError) as error:
        raise UsageError(f"expected a file of texts that can be read; got {path}: {error.strerror}.") from None
    lines, coding = decode(content, name)
    if not any(line.strip() for line in lines):
        raise UsageError(f"expected one text a line in {name}; it is empty.")
    if not coding.plain:
        print(f"{name}: read as {coding}", file=sys.stderr)
    return lines


def add_kinds(parser: argparse.ArgumentParser, kinds: dict[str, tuple[ModuleType, str]]) -> None:
    """Declare a verb's sub-verbs; each is a module with ``configure(parser)`` and ``run(args)``, and ``args.run_kind`` runs it.

    Example:
        >>> from inbatch.experiments.evaluation import sts
        >>> parser = argparse.ArgumentParser()
        >>> add_kinds(parser, {"sts": (sts, "semantic textual similarity")})
        >>> args = parser.parse_args(["sts", "minilm"])
        >>> args.kind, args.path, args.run_kind is sts.run
        ('sts', 'minilm', True)
    """
    choices = parser.add_subparsers(dest="kind", required=True, metavar="{" + ",".join(kinds) + "}")
    for name, (module, text) in kinds.items():
        sub = choices.add_parser(name, help=text)
        module.configure(sub)
        sub.set_defaults(run_kind=module.run)
