"""Parts of an earlier run's export, to be trained on."""

from __future__ import annotations

from pathlib import Path

from inbatch.errors import UsageError
from inbatch.models.export.sentence_transformers import DENSE, read_dense
from inbatch.models.heads.dense import Dense
from inbatch.models.heads.latent_attention import FILE, LatentAttention
from inbatch.models.locate import locate
from inbatch.models.record import RECORD, load_module, read_record


class ExportedDense(Dense):
    """The dense head of an earlier run's export, to be trained on.

    GCSE's release starts its model and its projector from one checkpoint of stage 1.

    Args:
        name: the export's folder or hub id.

    Raises:
        MissingError: if it is not here and cannot be fetched.
        UsageError: if it has no dense head.

    Example:
        >>> from inbatch.models import Encoder, TinyRandom
        >>> _ = Encoder(TinyRandom(), head=Dense(32, 8)).save_pretrained("with a head")
        >>> ExportedDense("with a head").out_features
        8
    """

    def __init__(self, name: str) -> None:

        folder = locate(name)
        if not (folder / DENSE).is_dir():
            raise UsageError(
                f"expected an export with a dense head; {folder} has none. Choose another, or a new Dense."
            )
        found = read_dense(folder / DENSE)
        super().__init__(found.in_features, found.out_features, found.activation, found.linear.bias is not None)
        self.load_state_dict(found.state_dict())


class ExportedLatentAttention(LatentAttention):
    """The latent attention of an earlier run's export, to be trained on; it is no part of the network, which is loaded by itself.

    Args:
        name: the export's folder or hub id.

    Raises:
        MissingError: if it is not here and cannot be fetched.
        UsageError: if it has no latent attention.

    Example:
        >>> from inbatch.models import Encoder, TinyRandom
        >>> encoder = Encoder(TinyRandom(), latent=LatentAttention(32, latents=4))
        >>> _ = encoder.save_pretrained("with latents")
        >>> ExportedLatentAttention("with latents").latents.shape
        torch.Size([4, 32])
    """

    def __init__(self, name: str) -> None:

        folder: Path = locate(name)
        settings = read_record(folder).get("latent") if (folder / RECORD).is_file() else None
        if settings is None:
            raise UsageError(
                f"expected an export with latent attention; {folder} has none. Choose another, or a new one."
            )
        super().__init__(**settings)
        load_module(self, folder / FILE)
