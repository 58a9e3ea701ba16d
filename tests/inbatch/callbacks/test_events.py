"""TensorBoard events hold the settings that decide a run's result, once, before its numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from inbatch.callbacks.events import Events

CONFIG = {
    "run_dir": "runs/a",
    "seed_everything": 3,
    "data": {"batch_size": 16, "sources": ["a.csv", {"path": "b.csv"}], "num_workers": 2, "repetition": None},
    "model": {"optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.003}}, "decay_all": False},
}
SETTINGS = {
    "seed_everything": 3, "data.batch_size": 16, "data.sources": '["a.csv", {"path": "b.csv"}]', "model.decay_all": False,
    "model.optimizer.class_path": "torch.optim.AdamW", "model.optimizer.init_args.lr": 0.003,
}  # fmt: skip


def read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder / "tensorboard")).Reload()


def settings(folder: Path) -> dict[str, Any]:
    """The hyper-parameters that TensorBoard finds in a run folder."""
    from google.protobuf.json_format import MessageToDict
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    (content,) = read(folder).PluginTagToContent("hparams").values()
    found = HParamsPluginData.FromString(content).session_start_info.hparams
    return {key: MessageToDict(value) for key, value in found.items()}


def test_settings_are_written_with_the_first_numbers(tmp_path: Path):
    events = Events(tmp_path, CONFIG)
    assert not list(tmp_path.rglob("events.*"))
    events.log_metrics({"train/loss": 2.0}, 1)
    events.log_metrics({"train/loss": 1.0}, 2)
    events.finalize("success")
    assert settings(tmp_path) == SETTINGS
    assert [(event.step, event.value) for event in read(tmp_path).Scalars("train/loss")] == [(1, 2.0), (2, 1.0)]
    assert yaml.safe_load((tmp_path / "tensorboard" / "hparams.yaml").read_text()) == SETTINGS


def test_settings_are_written_once_a_start(tmp_path: Path):
    events = Events(tmp_path, CONFIG)
    for step in (1, 2, 3):
        events.log_metrics({"train/loss": 1.0 / step}, step)
    events.finalize("success")
    (path,) = tmp_path.rglob("events.*")
    assert path.read_bytes().count(b"seed_everything") == 1


def test_a_resumed_run_takes_back_what_came_after_its_checkpoint_and_keeps_its_settings(tmp_path: Path):
    for last, steps in ((None, (1, 2, 3)), (1, (2,))):
        events = Events(tmp_path, CONFIG, last)
        for step in steps:
            events.log_metrics({"train/loss": float(step)}, step)
        events.finalize("success")
    assert [event.step for event in read(tmp_path).Scalars("train/loss")] == [1, 2]
    assert settings(tmp_path) == SETTINGS
