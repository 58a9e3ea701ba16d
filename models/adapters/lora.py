"""LoRA adapters: attach them, merge them without touching the live weights, save them, load them and check that they took effect."""

from __future__ import annotations

import hashlib
import logging
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from inbatch.errors import MissingError, UsageError
from inbatch.models.adapters.modifier import Modifier
from inbatch.models.adapters.quantization import dequantized

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from inbatch.models.backbones.base import Backbone

# peft imports it where it is installed, and on a CPU it then tells of a kernel that it could download.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_POOLER = r"(.*\.)?pooler(\..*)?"


@dataclass(frozen=True)
class Lora(Modifier):
    """Low-rank adaptation of a backbone's linear layers: W x + (alpha / rank) B A x, with W frozen.

    An export holds it twice, and asks neither `save` nor `load` for it: added to the network's weights, and in peft's own format.

    Attributes:
        rank: rows of A and columns of B.
        alpha: scale of the update, divided by the rank.
        dropout: on the input of A, in training.
        targets: ends of module names, such as ``[query, value]``, or one of them; None for every linear layer of the backbone.

    Source: Hu et al. 2021, arXiv 2106.09685.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> backbone = TinyRandom(num_layers=1, lora=Lora(rank=2, targets=["query"]))
        >>> sum(p.requires_grad for p in backbone.parameters())
        2
    """

    freezes: ClassVar[bool] = True

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: list[str] | str | None = None

    def __post_init__(self):
        if self.rank < 1:
            raise UsageError(f"expected a LoRA rank of at least 1; got {self.rank}. Set lora.rank.")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"expected a LoRA dropout in [0, 1); got {self.dropout}")

    def attach(self, backbone: Backbone) -> None:
        """See `Modifier.attach`."""
        backbone.model = attach(backbone.network, self)


def attach(network: PreTrainedModel, lora: Lora) -> PeftModel:
    """Freeze a network and put trainable adapters on its linear layers; A is drawn with torch's global generator.

    Raises:
        UsageError: if no module matches the targets.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> attach(TinyRandom().network, Lora(rank=2)).peft_config["default"].r
        2
    """
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers.pytorch_utils import Conv1D

    # As one string peft would take them for a regular expression.
    targets = [lora.targets] if isinstance(lora.targets, str) else lora.targets
    config = LoraConfig(
        task_type=TaskType.FEATURE_EXTRACTION,
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # peft only multiplies with it
        lora_dropout=lora.dropout,
        target_modules=targets or "all-linear",
        # Where a class insists on its pooler, an adapter on it would never get a gradient.
        exclude_modules=_POOLER if any(re.fullmatch(_POOLER, name) for name, _ in network.named_modules()) else None,
    )
    try:
        with _without_deprecations():
            return get_peft_model(network, config)
    except ValueError as error:
        linear = sorted(
            {name.rsplit(".", 1)[-1] for name, m in network.named_modules() if isinstance(m, nn.Linear | Conv1D)}
        )
        raise UsageError(
            f"expected LoRA targets that name modules of {type(network).__name__}; got {lora.targets}. "
            f"Its linear layers end in {', '.join(linear)}; null takes all of them. Set lora.targets."
        ) from error


def merged_state(network: nn.Module) -> dict[str, Tensor]:
    """Return the network's state with every adapter added to its layer's weight, under the names of the plain network; weights in 4
    bits as the numbers that they stand for.

    The live weights are only read: merging in place and undoing it would change them by rounding, and a run that saves
    would no longer equal one that does not.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> adapted, plain = TinyRandom(lora=Lora()), TinyRandom()
        >>> merged_state(adapted.network).keys() == plain.network.state_dict().keys()
        True
    """
    from peft.tuners.lora import LoraLayer

    dtype = next(p.dtype for p in network.parameters() if p.is_floating_point() and p.dtype.itemsize > 1)
    packed = {name: p for name, p in network.named_parameters() if hasattr(p, "quant_state")}
    weights: dict[str, Any] = {**network.state_dict(), **packed}  # the former has bare bytes
    state = {
        name.replace(".base_layer", ""): dequantized(weight, dtype)
        for name, weight in weights.items()
        if ".lora_" not in name and not any(name.startswith(f"{of}.") for of in packed)
    }
    for name, module in network.named_modules():
        if isinstance(module, LoraLayer):
            layer: Any = module  # the base class declares no get_delta_weight, its kinds have one
            weight = state[f"{name}.weight"]
            with torch.no_grad():
                delta = sum(layer.get_delta_weight(adapter) for adapter in layer.active_adapters)
                state[f"{name}.weight"] = (weight + delta).to(weight.dtype)
    return state


@contextmanager
def without_adapter(model: PeftModel) -> Iterator[None]:
    """Run a network as its base; what is trainable stays as it was (peft's own switch makes every adapter trainable).

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> backbone = TinyRandom(lora=Lora())
        >>> with without_adapter(backbone.model):
        ...     backbone.adapted
        True
    """
    trainable = [(p, p.requires_grad) for p in model.parameters()]
    try:
        with model.disable_adapter():
            yield
    finally:
        for parameter, flag in trainable:
            parameter.requires_grad_(flag)


def weights_sha256(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Hash names and values of tensors, in the order of the names: says whether a base is the one an adapter was trained on.

    Example:
        >>> one, other = torch.zeros(2), torch.ones(2)
        >>> weights_sha256([("a", one), ("b", other)]) == weights_sha256([("b", other), ("a", one)])
        True
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors, key=lambda item: item[0]):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def files_sha256(folder: Path) -> str:
    """Hash the safetensors files of a folder: what a base is known by whose weights are packed when they are loaded.

    Example:
        >>> files_sha256(Path("."))[:8]
        'e3b0c442'
    """
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def base_sha256(network: nn.Module) -> str:
    """Hash the parameters of a network as they are without its adapters.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> base_sha256(TinyRandom(lora=Lora()).network) == base_sha256(TinyRandom().network)
        True
    """
    named = ((n.replace(".base_layer", ""), p) for n, p in network.named_parameters() if ".lora_" not in n)
    return weights_sha256(named)


def save_adapter(model: PeftModel, folder: Path, base: str) -> None:
    """Write an adapter in peft's format, naming its base; the file is read back and must hold the live values.

    Example:
        >>> import tempfile
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_adapter(TinyRandom(lora=Lora()).model, Path(folder) / "adapter", base="mine")
        ...     sorted(path.name for path in Path(folder).rglob("*.*"))
        ['adapter_config.json', 'adapter_model.safetensors']
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    # Not through PeftModel.save_pretrained: that asks the hub about the base's vocabulary and writes a card of its own.
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    state = {name: t.detach().cpu().contiguous() for name, t in state.items()}
    save_file(state, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    config = model.peft_config["default"].to_dict() | {"base_model_name_or_path": base, "inference_mode": True}
    type(model.peft_config["default"])(**config).save_pretrained(str(folder))
    _require_equal(folder, state)


def load_adapter(network: PreTrainedModel, folder: Path) -> PeftModel:
    """Put a saved adapter on its base network and check that every one of its tensors arrived.

    Raises:
        MissingError: if the folder lacks the adapter's weights.
        UsageError: if the adapter does not fit the network.

    Example:
        >>> import tempfile
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_adapter(TinyRandom(lora=Lora(rank=3)).model, Path(folder) / "adapter", base="mine")
        ...     load_adapter(TinyRandom().network, Path(folder) / "adapter").peft_config["default"].r
        3
    """
    from peft import PeftModel, get_peft_model_state_dict

    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise MissingError(
            f"expected {ADAPTER_WEIGHTS} in {folder}; it is not there. Copy the whole adapter folder, or fetch it with "
            "`hf download NAME`."
        )
    try:
        with _without_deprecations():
            model = PeftModel.from_pretrained(network, str(folder))
    except (RuntimeError, ValueError) as error:
        cause = str(error).splitlines()[0][:200]
        raise UsageError(
            f"expected an adapter that fits {type(network).__name__}; {folder} does not: {cause}"
        ) from error
    _require_equal(folder, get_peft_model_state_dict(model, save_embedding_layers=False))
    return model


@contextmanager
def _without_deprecations() -> Iterator[None]:
    # peft asks transformers for a property under its older name.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _require_equal(folder: Path, state: dict[str, Any]) -> None:
    """Compare an adapter's file with live tensors: an adapter that silently loads in part, or not at all, is the base."""
    from safetensors.torch import load_file

    saved = load_file(folder / ADAPTER_WEIGHTS)
    differing = sorted(saved.keys() ^ state.keys())
    differing += sorted(
        n for n in saved.keys() & state.keys() if not torch.equal(saved[n].to(state[n].dtype), state[n].cpu())
    )
    if differing:
        raise UsageError(
            f"expected the adapter in {folder} to load wholly; {len(differing)} tensors differ, the first is {differing[0]}. "
            "Give the base model that it was trained on."
        )
