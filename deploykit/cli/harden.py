"""``deploykit harden``: take the decisions and show what they cost."""

from __future__ import annotations

import typer

from deploykit.cli.options import AsJson, RunPath


def harden(run: RunPath, as_json: AsJson = False) -> None:
    """Harden a trained run, check the contract and compare the two forms; writes nothing.

    Example: deploykit harden runs/digits-binarized.biper
    """
    from deploykit.cli.output import print_json, print_table
    from deploykit.lifecycle import binding_of
    from deploykit.lifecycle import harden as take_decisions
    from deploykit.outputs import tensors
    from deploykit_export.gap import count_decisions
    from deploykit_training.training import evaluate, soft_from_run

    record, soft, task = soft_from_run(run)
    hard = take_decisions(soft, tensors(task.samples("calibration").inputs, task.signature))
    method = binding_of(soft).method
    few = tensors(task.samples("test").take(slice(0, 128)).inputs, task.signature)
    counts = count_decisions(method.decisions(soft, few), method.decisions(hard.module, few))
    metrics = {"soft": evaluate(soft, task), "hard": evaluate(hard.module, task)}
    if as_json:
        print_json(
            {"method": record.method, "metric": task.metric_name, **metrics, "facts": dict(hard.facts),
             "decisions": {name: count.model_dump() for name, count in counts.items()},
             "lowerings": list(hard.lowerings)}
        )  # fmt: skip
        return
    typer.echo(f"{record.method}: {task.metric_name} soft {metrics['soft']:.4f}, hard {metrics['hard']:.4f}")
    rows = [
        (name, str(count.total), f"{1 - (count.different + count.near_ties) / max(1, count.total):.4f}",
         str(count.near_ties))
        for name, count in counts.items()
    ]  # fmt: skip
    print_table("", ("decision", "compared", "agree", "near ties"), rows, right=("compared", "agree", "near ties"))
    for key, value in hard.facts.items():
        typer.echo(f"{key}: {value}")
    typer.echo(f"can be written as: {', '.join(hard.lowerings)}")
