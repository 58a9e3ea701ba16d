"""What an export keeps of an encoder beyond network, pooling and a dense head: prefixes, learned tokens, other heads, corrections."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inbatch.models.adapters.modifier import save_module
from inbatch.models.adapters.prefix import Prefix
from inbatch.models.heads.dense import MLMTransform
from inbatch.models.heads.latent_attention import FILE as LATENT
from inbatch.models.heads.latent_attention import LatentAttention
from inbatch.models.heads.template_bias import TemplateBias
from inbatch.models.record import load_module

if TYPE_CHECKING:
    from inbatch.models.encoder import Encoder

TRANSFORM = "mlm_transform.safetensors"
# Arguments of `Encoder` that a record holds as they are.
_PLAIN = ("default_prompt", "one_string_at_test", "period_at_test", "one_string", "ensembles")


def describe_parts(encoder: Encoder) -> dict[str, Any]:
    """Return the record's entries of these parts.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.models.encoder import Encoder
        >>> describe_parts(Encoder(TinyRandom("llama", learned_tokens=2)))["learned_tokens"]
        2
    """
    correction, head, prefix = encoder.correction, encoder.head, encoder.backbone.prefix
    learned = encoder.backbone.learned_tokens
    switches = ("template_bias_at_test", "after_head", "bias_gradient", "delta_positions")
    return {
        "prefix": None if prefix is None else asdict(prefix),
        "mlm_transform": {"in_features": head.in_features, "eps": head.norm.eps}
        if isinstance(head, MLMTransform)
        else None,
        "correction": None if correction is None else {name: getattr(correction, name) for name in switches},
        "learned_tokens": 0 if learned is None else len(learned),
        "latent": None if encoder.latent is None else encoder.latent.settings,
        **{name: getattr(encoder, name) for name in _PLAIN},
    }


def write_parts(folder: Path, encoder: Encoder) -> None:
    """Write the weights of these parts, where the encoder has them.

    Example:
        >>> import tempfile
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.models.encoder import Encoder
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_parts(Path(folder), Encoder(TinyRandom(prefix=Prefix(2))))
        ...     [path.name for path in Path(folder).iterdir()]
        ['prefix.safetensors']
    """
    for modifier in encoder.backbone.modifiers:
        modifier.save(encoder.backbone, folder)
    if encoder.latent is not None:
        save_module(encoder.latent, folder / LATENT)
    if isinstance(encoder.head, MLMTransform):
        save_module(encoder.head, folder / TRANSFORM)


def read_prefix(record: dict[str, Any]) -> Prefix | None:
    """Return the settings of a record's prefix; the table's weights follow by `read_parts`.

    Example:
        >>> read_prefix({"prefix": {"length": 3}})
        Prefix(length=3, dropout=None, projection=None)
    """
    found = record.get("prefix")
    return None if found is None else Prefix(**found)


def read_parts(folder: Path, record: dict[str, Any], backbone: Any) -> dict[str, Any]:
    """Load what the modifiers of a backbone wrote, and return the arguments of `Encoder` that the record holds beyond the plain ones.

    Raises:
        MissingError: if weights of the record are not there.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> read_parts(Path("export"), {"period_at_test": True}, TinyRandom())
        {'period_at_test': True}
    """
    for modifier in backbone.modifiers:
        modifier.load(backbone, folder)
    found: dict[str, Any] = {name: record[name] for name in _PLAIN if name in record}
    if record.get("latent") is not None:
        found["latent"] = LatentAttention(**record["latent"])
        load_module(found["latent"], folder / LATENT)
    if record.get("correction") is not None:
        found["correction"] = TemplateBias(**record["correction"])
    if record.get("mlm_transform") is not None:
        found["head"] = MLMTransform(**record["mlm_transform"])
        load_module(found["head"], folder / TRANSFORM)
    return found
