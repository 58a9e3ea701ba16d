"""What a run says before its first step: where it runs, what it reads, what it trains and against how many negatives."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from inbatch.kernels.infonce.selection import chosen_backend
from inbatch.losses.base import contrasted_views, describe, parts
from inbatch.models.backbones.eos import ends_with


class FirstScreen(Callback):
    """Print the facts of a run once its first batch is there, on rank 0.

    Args:
        run: lines about the run itself: its folder, whether it resumes.
        precision_reason: a clause that says why the precision is what it is.

    Example:
        >>> from types import SimpleNamespace
        >>> from unittest.mock import patch
        >>> from inbatch.losses.contrastive.infonce import InfoNCE
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.models.encoder import Encoder
        >>> from inbatch.models.module import EmbeddingModule
        >>> from inbatch.views import Views
        >>> module = EmbeddingModule(Encoder(TinyRandom(attention="eager")), InfoNCE(), torch.optim.AdamW)
        >>> data = SimpleNamespace(batch_size=64, describe=lambda: ["data        pairs.csv: 1,000 rows"])
        >>> place = {"strategy": SimpleNamespace(root_device=torch.device("cpu")), "is_global_zero": True, "world_size": 1}
        >>> trainer = SimpleNamespace(**place, precision="32-true", accumulate_grad_batches=1, datamodule=data)
        >>> with patch("torch.get_num_threads", return_value=8):
        ...     FirstScreen(["run folder  runs/pairs"], "as set").on_train_batch_start(trainer, module, Views("a", "b"), 0)
        run folder  runs/pairs
        device      cpu (8 threads), 1 rank, precision 32-true (as set)
        model       TinyRandom(kind='bert', seed=0), 2 layers, mean pooling, 32 dimensions
        attention   eager (as asked)
        objective   InfoNCE
        info_nce    chunked (plain torch in blocks, 256 MiB workspace, on cpu)
        parameters  41,952 trainable of 41,952
        batch       64 rows over all ranks
        negatives   63 an anchor, before duplicates are masked
        memory      chunks of 16,384 tokens through the encoder
        data        pairs.csv: 1,000 rows
    """

    def __init__(self, run: list[str], precision_reason: str) -> None:
        self.run = run
        self.precision_reason = precision_reason
        self._shown = False

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Print before the first step of this process."""
        if self._shown or not trainer.is_global_zero:
            return
        self._shown = True
        facts = {
            "device": f"{device_line(trainer)} ({self.precision_reason})",
            **model_lines(pl_module),
            **batch_lines(trainer, pl_module, batch),
        }
        width = max(map(len, facts))
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        lines = [*self.run, *(f"{name:<{width}}  {fact}" for name, fact in facts.items()), *data.describe()]
        print("\n".join(lines), flush=True)


def device_line(trainer: Trainer) -> str:
    """Name the device, the number of ranks, and the precision.

    Example:
        >>> from types import SimpleNamespace
        >>> from unittest.mock import patch
        >>> cpu = SimpleNamespace(root_device=torch.device("cpu"))
        >>> with patch("torch.get_num_threads", return_value=8):
        ...     device_line(SimpleNamespace(strategy=cpu, world_size=2, precision="32-true"))
        'cpu (8 threads), 2 ranks, precision 32-true'
    """
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    ranks = f"{trainer.world_size} rank{'s' if trainer.world_size > 1 else ''}"
    return f"{device} ({name}), {ranks}, precision {trainer.precision}"


def model_lines(module: Any) -> dict[str, str]:
    """Describe encoder, objective, and the parts chosen for this machine with the reason.

    Example:
        >>> from inbatch.losses.contrastive.infonce import InfoNCE
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.models.encoder import Encoder
        >>> from inbatch.models.module import EmbeddingModule
        >>> encoder = Encoder(TinyRandom(), prompts={"query": "search: "})
        >>> lines = model_lines(EmbeddingModule(encoder, InfoNCE(), torch.optim.AdamW))
        >>> lines["model"]
        "TinyRandom(kind='bert', seed=0), 2 layers, mean pooling, 32 dimensions"
        >>> lines["prompts"]
        "query = 'search: '"
    """
    backbone = module.encoder.backbone
    trainable = sum(p.numel() for p in module.parameters() if p.requires_grad)
    total = sum(p.numel() for p in module.parameters())
    prompts = {name: prompt for name, prompt in module.encoder.prompts.items() if prompt}
    return {
        "model": f"{backbone.name}, {layers(backbone)}{module.encoder.pooling} pooling, {module.encoder.dim} dimensions",
        **({"prompts": "; ".join(f"{name} = {prompt!r}" for name, prompt in prompts.items())} if prompts else {}),
        **({"last token": last_token(module.encoder)} if module.encoder.pooling == "last" else {}),
        "attention": f"{backbone.attention} ({backbone.attention_reason})",
        "objective": describe(module.objective),
        **({"info_nce": operator_line(module.device)} if contrasts_rows(module.objective) else {}),
        "parameters": f"{trainable:,} trainable of {total:,}",
    }


def operator_line(device: torch.device) -> str:
    """Say which backend the operators take on a device, and why.

    Example:
        >>> operator_line(torch.device("cpu"))
        'chunked (plain torch in blocks, 256 MiB workspace, on cpu)'
    """
    backend, why = chosen_backend(device)
    return f"{backend} ({why})"


def last_token(encoder: Any) -> str:
    """Say which token the pooling ``last`` reads: what the tokenizer puts behind a text, or whatever the text or template ends in.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.models.encoder import Encoder
        >>> last_token(Encoder(TinyRandom("llama"), pooling="last"))
        '</s>, put behind each text by the tokenizer'
        >>> last_token(Encoder(TinyRandom("gpt2"), pooling="last"))
        "the text's or the template's own (backbone.eos)"
    """
    end = ends_with(encoder.tokenizer)
    return (
        "the text's or the template's own (backbone.eos)"
        if end is None
        else f"{end}, put behind each text by the tokenizer"
    )


def layers(backbone: Any) -> str:
    """Say how many layers there are, what stands before each, and which see the whole text; empty where the network does not tell.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> layers(TinyRandom("llama", num_layers=3, bidirectional=1))
        '3 layers, the last 1 without causal mask, '
    """
    count = getattr(backbone.config.get_text_config(), "num_hidden_layers", None)
    prefix = "" if backbone.prefix is None else f" with a prefix of {backbone.prefix.length}"
    uncovered = backbone.bidirectional
    if uncovered is not False:
        prefix += (
            " without causal mask" if isinstance(uncovered, bool) else f", the last {uncovered} without causal mask"
        )
    packed = "" if backbone.quantize is None else f" in {backbone.quantize}"
    return "" if count is None else f"{count} layers{packed}{prefix}, "


def batch_lines(trainer: Trainer, module: Any, batch: Any) -> dict[str, str]:
    """Count what one optimizer step sees.

    Example:
        >>> from types import SimpleNamespace
        >>> from inbatch.losses.contrastive.infonce import InfoNCE
        >>> from inbatch.views import Views
        >>> trainer = SimpleNamespace(datamodule=SimpleNamespace(batch_size=64), accumulate_grad_batches=4)
        >>> module = SimpleNamespace(chunk_tokens=16384, objective=InfoNCE())
        >>> lines = batch_lines(trainer, module, Views("anchor", "positive"))
        >>> lines["batch"]
        '64 rows over all ranks x 4 accumulated'
        >>> lines["negatives"]
        '63 an anchor, before duplicates are masked'
    """
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    rows, keys = data.batch_size, 1 + len(batch.negatives)
    chunks = "the whole batch at once" if module.chunk_tokens is None else f"chunks of {module.chunk_tokens:,} tokens"
    accumulation = trainer.accumulate_grad_batches
    return {
        "batch": f"{rows:,} rows over all ranks" + (f" x {accumulation} accumulated" if accumulation > 1 else ""),
        "negatives": negatives(module.objective, rows, keys),
        "memory": f"{chunks} through the encoder",
    }


def negatives(objective: Any, rows: int, keys: int) -> str:
    """Count the negatives of an anchor in a batch of so many rows, with so many texts beside each anchor.

    Example:
        >>> from inbatch.losses.contrastive.infonce import InfoNCE
        >>> negatives(InfoNCE(), rows=64, keys=2)  # 64 positives and 64 hard negatives, less its own positive
        '127 an anchor, 1 hard negative a row among them, before duplicates are masked'
    """
    seen = contrasted_views(objective, keys + 1)
    if not seen:
        return "none: the rows of a batch are not contrasted with each other"
    keys = seen - 1
    hard = f", {keys - 1} hard negative{'s' if keys > 2 else ''} a row among them" if keys > 1 else ""
    queue = sum(part.queue_size for part in parts(objective))
    beside = f", and {queue:,} in a full queue" if queue else ""
    return f"{rows * keys - 1:,} an anchor{hard}, before duplicates are masked{beside}"


def contrasts_rows(objective: Any) -> bool:
    """Say whether an objective, or one inside of it, takes rows of a batch for negatives of each other: the operators do that.

    Example:
        >>> from inbatch.losses.contrastive.infonce import InfoNCE
        >>> from inbatch.losses.graded.cosent import CoSENT
        >>> contrasts_rows(InfoNCE()), contrasts_rows(CoSENT())
        (True, False)
    """
    return any(part.in_batch for part in parts(objective))
