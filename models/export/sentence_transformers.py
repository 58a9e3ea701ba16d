"""The folder layout of sentence-transformers: written in its legacy form, which all its versions load, and read in both forms."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from inbatch.errors import MissingError, UsageError
from inbatch.models.heads.dense import Dense
from inbatch.models.record import MODULES, max_seq_length, read_json, sentence_settings, write_json
from inbatch.text.templates import INSTRUCTION, is_template

if TYPE_CHECKING:
    from inbatch.models.encoder import Encoder

DENSE = "2_Dense"

# Ours -> its legacy switch. First-last and mask have no counterpart there.
_SWITCHES = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "last": "pooling_mode_lasttoken",
}
_ACTIVATIONS = {"tanh": "torch.nn.modules.activation.Tanh", "identity": "torch.nn.modules.linear.Identity"}
EXPRESSIBLE = ("mean", "cls", "last")
# The module of folders that only inbatch can load.
REFUSAL = "inbatch.models.refusal.LoadWithInbatch"


@dataclass(frozen=True)
class Layout:
    """What a sentence-transformers folder says around its network.

    Attributes:
        pooling: mean, cls or last.
        normalize: whether vectors are divided by their norm.
        max_length: tokens kept of a text, or None.
        prompts: by name.
        head: after the pooling.
        network: the sub-folder of the network, "" for the folder itself.
        default_prompt: name of the prompt put before every text that asks for none.
        similarity: the name of what sentence-transformers compares vectors by; None if it is not said.

    Example:
        >>> Layout("mean", True, 128, {}, None).network
        ''
    """

    pooling: str
    normalize: bool
    max_length: int | None
    prompts: dict[str, str] = field(default_factory=dict)
    head: Dense | None = None
    network: str = ""
    default_prompt: str | None = None
    similarity: str | None = "cosine"


def obstacle_of(encoder: Encoder) -> str | None:
    """Say why this layout cannot express an encoder; None if it can.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.models.encoder import Encoder
        >>> obstacle_of(Encoder(TinyRandom())) is None
        True
    """
    if encoder.pooling not in EXPRESSIBLE:
        return f"it has no pooling `{encoder.pooling}`"
    if encoder.backbone.prefix is not None:
        return "it has no keys and values in front of every layer's own"
    if encoder.head is not None and not isinstance(encoder.head, Dense):
        return f"it has no head {type(encoder.head).__name__}"
    if encoder.latent is not None:
        return "it has no latent attention"
    if encoder.backbone.learned_tokens is not None:
        return "it has no learned tokens beside the network"
    if INSTRUCTION in encoder.prompts.get(encoder.default_prompt or "", ""):
        return "it has no place for an instruction in a default prompt"
    if encoder.ensembles:
        return "it has no mean over prompts"
    if encoder.period_at_test:
        return "it ends no text with a full stop"
    if any(is_template(prompt) for prompt in encoder.prompts.values()):
        return "it has prefixes in front of a text, no templates around it"
    if encoder.backbone.bidirectional:
        return "its older versions load a bidirectional decoder as a causal one"
    return None


def write_layout(folder: Path, layout: Layout, hidden_size: int) -> None:
    """Write the files around a network that lies in ``folder`` itself.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_layout(Path(folder), Layout("cls", True, 128, {}, None), 32)
        ...     (Path(folder) / "modules.json").is_file()
        True
    """
    import transformers

    steps = [("", "Transformer"), ("1_Pooling", "Pooling")]
    if layout.head is not None:
        steps.append((DENSE, "Dense"))
        write_dense(folder / DENSE, layout.head)
    if layout.normalize:
        steps.append((f"{len(steps)}_Normalize", "Normalize"))
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(steps)
    ]
    write_json(folder / MODULES, modules)
    for path, _ in steps[1:]:
        (folder / path).mkdir(exist_ok=True)
    switches = {switch: name == layout.pooling for name, switch in _SWITCHES.items()}
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": hidden_size, **switches})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": layout.max_length, "do_lower_case": False})
    # The version says whose layout this is; a later one than the reader's would make it warn.
    versions = {
        "sentence_transformers": "2.7.0",
        "transformers": transformers.__version__,
        "pytorch": torch.__version__,
    }
    settings = {
        "__version__": versions,
        "prompts": layout.prompts,
        "default_prompt_name": layout.default_prompt,
        "similarity_fn_name": layout.similarity,
    }
    write_json(folder / "config_sentence_transformers.json", settings)


def write_refusal(folder: Path) -> None:
    """Keep sentence-transformers from loading a folder that it cannot express: it would take mean pooling and no prompts.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_refusal(Path(folder))
        ...     refuses(Path(folder))
        True
    """
    write_json(folder / MODULES, [{"idx": 0, "name": "0", "path": "", "type": REFUSAL}])


def refuses(folder: Path) -> bool:
    """Say whether a folder is one that sentence-transformers is kept from loading.

    Example:
        >>> write_json(Path(MODULES), [{"type": "sentence_transformers.models.Transformer"}])
        >>> refuses(Path())
        False
        >>> write_refusal(Path())
        >>> refuses(Path())
        True
    """
    return [module.get("type") for module in read_json(folder / MODULES)] == [REFUSAL]


def read_layout(folder: Path) -> Layout:
    """Read the files around a network, in the legacy form or that of version 6.

    Raises:
        UsageError: if the folder holds a module or a setting that an `Encoder` cannot express; it is named.

    Example:
        >>> import tempfile
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.models.encoder import Encoder
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Encoder(TinyRandom(), pooling="cls").save_pretrained(folder)
        ...     read_layout(Path(folder)).pooling
        'cls'
    """
    steps = [(str(module.get("type", "")), str(module.get("path", ""))) for module in read_json(folder / MODULES)]
    kinds = [_kind(kind) for kind, _ in steps]
    paths = dict(zip(kinds, (path for _, path in steps)))
    if kinds not in (
        ["Transformer", "Pooling", *dense, *normalize] for dense in ([], ["Dense"]) for normalize in ([], ["Normalize"])
    ):
        raise UsageError(
            f"expected the modules Transformer, Pooling, then at most one Dense and one Normalize in {folder / MODULES}; got "
            f"{', '.join(kind for kind, _ in steps)}. Load this folder with sentence-transformers."
        )
    network = folder / paths["Transformer"]
    settings = _optional_json(folder / "config_sentence_transformers.json")
    prompts = {name: text for name, text in (settings.get("prompts") or {}).items() if text is not None}
    default = settings.get("default_prompt_name")
    return Layout(
        pooling=_read_pooling(folder / paths["Pooling"] / "config.json", any(prompts.values())),
        normalize="Normalize" in paths,
        max_length=_max_length(network),
        prompts=prompts,
        default_prompt=default if prompts.get(default) else None,
        head=read_dense(folder / paths["Dense"]) if "Dense" in paths else None,
        network=paths["Transformer"],
        similarity=settings.get("similarity_fn_name"),
    )


def write_dense(folder: Path, head: Dense) -> None:
    """Write a head as a Dense module.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_dense(Path(folder) / "head", Dense(4, 2))
        ...     read_dense(Path(folder) / "head").out_features
        2
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    config = {
        "in_features": head.in_features,
        "out_features": head.out_features,
        "bias": head.linear.bias is not None,
        "activation_function": _ACTIVATIONS[head.activation],
    }
    write_json(folder / "config.json", config)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in head.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def read_dense(folder: Path) -> Dense:
    """Read a Dense module.

    Raises:
        MissingError: if its weights are not there as safetensors.
        UsageError: if it does what `Dense` cannot, or its weights do not fit.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_dense(Path(folder) / "head", Dense(4, 2))
        ...     read_dense(Path(folder) / "head").in_features
        4
    """
    from safetensors.torch import load_file

    config = read_json(folder / "config.json")
    activations: dict[str, Any] = {path: name for name, path in _ACTIVATIONS.items()}
    activation = activations.get(config.get("activation_function", _ACTIVATIONS["tanh"]))
    own = ("sentence_embedding", None)
    rerouted = config.get("module_input_name") not in own or config.get("module_output_name") not in own
    if activation is None or config.get("use_residual") or rerouted:
        raise UsageError(
            f"expected a Dense module with Tanh or Identity, no residual, on the sentence embedding in {folder}; got {config}. "
            "Load this folder with sentence-transformers."
        )
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise MissingError(f"expected {weights}; it is not there. Fetch the whole model with `hf download NAME`.")
    head = Dense(config["in_features"], config["out_features"], activation, config.get("bias", True))
    state = load_file(weights)
    try:
        head.to(next(iter(state.values())).dtype).load_state_dict(state)
    except RuntimeError as error:
        raise UsageError(
            f"expected weights in {folder} that fit its config.json; {str(error).splitlines()[-1].strip()}"
        ) from error
    return head


def _kind(path: str) -> str:
    package, _, name = path.rpartition(".")
    # Modules of other packages may have the same names and do other things.
    return name if package.split(".")[0] == "sentence_transformers" else path


def _read_pooling(path: Path, prompted: bool) -> str:
    config = read_json(path)
    names = {"lasttoken": "last"}
    if "pooling_mode" in config:
        given = config["pooling_mode"]
        modes = [names.get(mode, mode) for mode in ([given] if isinstance(given, str) else given)]
    else:
        modes = [name for name, switch in _SWITCHES.items() if config.get(switch)] or ["mean"]
    if len(modes) != 1 or modes[0] not in EXPRESSIBLE:
        raise UsageError(f"expected pooling by one of mean, cls, lasttoken in {path}; got {', '.join(modes)}")
    if prompted and config.get("include_prompt") is False:
        raise UsageError(
            f"expected pooling over the whole text in {path}; include_prompt is false, which inbatch cannot do"
        )
    return modes[0]


def _optional_json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _max_length(network: Path) -> int | None:
    settings = sentence_settings(network)
    if settings.get("do_lower_case"):
        raise UsageError(
            f"expected a tokenizer that lower-cases by itself; the sentence_*_config.json in {network} asks for it in Python (do_lower_case)"
        )
    if sides := [name for name in ("query_length", "document_length") if settings.get(name)]:
        raise UsageError(
            f"expected one length for all texts in {network}; its sentence_*_config.json has {' and '.join(sides)}, by which queries and "
            "documents are cut apart. Load this folder with sentence-transformers."
        )
    return max_seq_length(settings)
