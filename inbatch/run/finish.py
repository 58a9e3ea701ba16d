"""The end of a run: export the best or last encoder, judge what is reloaded from its folder, keep and print the result."""

from __future__ import annotations

from typing import Any

from inbatch.activity import doing
from inbatch.callbacks.checkpoint import WholeFiles
from inbatch.callbacks.evaluation import Evaluation, run_evaluators
from inbatch.callbacks.metrics_file import read
from inbatch.data.datamodule import EmbeddingDataModule
from inbatch.losses.base import contrasted_views, describe
from inbatch.models.encoder import Encoder
from inbatch.models.export.merging import merges_elsewhere
from inbatch.models.module import EmbeddingModule
from inbatch.models.training.frozen import completed
from inbatch.run.provenance import commit
from inbatch.run_folder import RunFolder


def finish(
    trainer: Any, module: EmbeddingModule, data: EmbeddingDataModule, evaluation: Evaluation, folder: RunFolder
) -> dict[str, Any]:
    """Export, evaluate the export, and mark the run as finished; on rank 0, after training.

    Returns:
        ``steps``, ``exported_step``, ``export`` (the folder), ``obstacle`` (why sentence-transformers cannot load it, or None),
        ``train`` (the last step's numbers), ``before`` (what the evaluators said before the first step, where they judge as at test)
        and ``metrics`` (those of the export, as ``test/<evaluator>/<tag>``).

    Example:
        >>> from types import SimpleNamespace
        >>> import torch
        >>> from inbatch.losses.contrastive.infonce import InfoNCE
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> module = EmbeddingModule(Encoder(TinyRandom()), InfoNCE(), torch.optim.AdamW)
        >>> data = SimpleNamespace(sources=[], batch_size=64, tables=[SimpleNamespace(negatives=0)])
        >>> trainer = SimpleNamespace(global_step=200, strategy=SimpleNamespace(root_device="cpu"), loggers=[])
        >>> folder = RunFolder("finished")
        >>> folder.path.mkdir(exist_ok=True)
        >>> evaluation = Evaluation({"size": lambda encoder: {"dimensions": encoder.dim}})
        >>> result = finish(trainer, module, data, evaluation, folder)
        >>> result["exported_step"], result["export"], result["metrics"]
        (200, 'finished/export', {'test/size/dimensions': 32.0})
    """
    steps = step = trainer.global_step
    if evaluation.best_step not in (-1, steps):
        step = evaluation.best_step
        module.load_state_dict(completed(module, WholeFiles().load_checkpoint(folder.checkpoints / "best.ckpt")))
    lines = read(folder.metrics)
    train = next((line for line in reversed(lines) if "train/loss" in line), {})
    alike = not module.dev.differs and not merges_elsewhere(module.encoder.backbone)
    first = lines[0] if alike and lines and not lines[0]["step"] else {}
    before = {f"test/{tag.removeprefix('val/')}": value for tag, value in first.items() if tag.startswith("val/")}
    facts = {
        "data": ", ".join(source.path for source in data.sources),
        "loss": describe(module.objective),
        "batch size": data.batch_size,
        "negatives": in_batch_negatives(module.objective, data),
        "steps": step,
        "seed": module.seed,
        "scores": {evaluation.monitor: evaluation.best_score} if evaluation.best_step >= 0 else None,
        "commit": commit(),
    }
    module.encoder.to(
        trainer.strategy.root_device
    )  # the trainer has moved it to the CPU, where flash attention cannot run
    with doing("exporting the encoder"):
        export = module.encoder.save_pretrained(folder.export, facts)
    with doing("evaluating the export"):
        encoder = Encoder.from_pretrained(folder.export).to(trainer.strategy.root_device)
        numbers = run_evaluators(evaluation.evaluators, encoder, "test")
    for logger in trainer.loggers:
        if numbers:
            logger.log_metrics(numbers, steps)
        logger.finalize("success")
    result = {
        "steps": steps,
        "exported_step": step,
        "export": str(folder.export),
        "obstacle": export.obstacle,
        "train": train,
        "before": before,
        "metrics": numbers,
    }
    folder.finish(result)
    return result


def in_batch_negatives(objective: Any, data: EmbeddingDataModule) -> int | str | None:
    """Say how many negatives an anchor has in a full batch; None where rows are no negatives of each other.

    Of several objectives that see other views, those of the one with the most. Not by what the last step logged: an epoch's last batch may
    be smaller. Sources that do not share batches may differ.

    Example:
        >>> from types import SimpleNamespace
        >>> from inbatch.losses.contrastive.infonce import InfoNCE
        >>> data = SimpleNamespace(batch_size=64, tables=[SimpleNamespace(negatives=0), SimpleNamespace(negatives=1)])
        >>> in_batch_negatives(InfoNCE(), data)
        '63 to 127, by source'
    """
    seen = {contrasted_views(objective, 2 + table.negatives) for table in data.tables}
    found = sorted(data.batch_size * (views - 1) - 1 for views in seen if views)
    if not found:
        return None
    return found[0] if len(found) == 1 else f"{found[0]} to {found[-1]}, by source"


def describe_result(folder: RunFolder, result: dict[str, Any], how: str) -> str:
    """Lay out a result for the screen; ``how`` says when the run was finished.

    Example:
        >>> result = {"steps": 500, "exported_step": 250, "export": "runs/pairs/export", "obstacle": None}
        >>> numbers = {"before": {"test/sts/avg": 0.5}, "metrics": {"test/sts/avg": 0.75}}
        >>> print(describe_result(RunFolder("runs/pairs"), {**result, **numbers}, "finished"))
        finished: 500 steps, exported the encoder of step 250
                          before     after      gain
          test/sts/avg    0.5000    0.7500   +0.2500
          run folder    runs/pairs
          export        runs/pairs/export
    """
    width = max(map(len, ["run folder", *result["metrics"]]))
    before = result.get("before", {})  # runs of older versions have none
    lines = [f"{how}: {result['steps']} steps, exported the encoder of step {result['exported_step']}"]
    if before and result["metrics"]:
        lines.append(f"  {'':<{width}}  {'before':>8}  {'after':>8}  {'gain':>8}")
    for tag, value in result["metrics"].items():
        first = before.get(tag)
        compared = f"{value:>8.4f}" if first is None else f"{first:>8.4f}  {value:>8.4f}  {value - first:>+8.4f}"
        lines.append(f"  {tag:<{width}}  {compared}")
    lines += [f"  {'run folder':<{width}}  {folder.path}", f"  {'export':<{width}}  {result['export']}"]
    if result["obstacle"] is not None:
        lines.append(f"  sentence-transformers cannot express the export, and refuses it: {result['obstacle']}")
    return "\n".join(lines)
