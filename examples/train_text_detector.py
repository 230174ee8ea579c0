"""Train the text detector of ``examples/text_detector`` and print how well it does.

    OMP_NUM_THREADS=1 python examples/train_text_detector.py --out examples/text_detector

takes ten to twenty minutes on one core; with ``--measure`` it measures the file that is there and trains nothing. Needs
``pip install -c constraints.txt '.[export,text]'``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import deploykit
from deploykit.lifecycle import build, harden
from deploykit_binarized.db import DB
from deploykit_binarized.db_network import SoftDetector
from deploykit_tasks.pages import Pages
from deploykit_tasks.pages_detector import DECODER_SETTINGS, SHORT_SIDE, detector_input, detector_model
from deploykit_tasks.pages_photographs import score_photograph


def train(method: DB, task: Pages, seed: int) -> SoftDetector:
    """Train a soft form as the method plans it."""
    torch.manual_seed(seed)
    soft: Any = build(method, task)
    samples = task.samples("train")
    plan = method.plan(soft, task)
    order = np.random.default_rng(seed)
    batches = -(-len(samples) // plan.batch_size)
    parameters = list(soft.parameters())
    started = time.monotonic()
    soft.train()
    for epoch in range(plan.epochs):
        shuffled, losses = order.permutation(len(samples)), 0.0
        for number in range(batches):
            batch = samples.take(shuffled[number * plan.batch_size : (number + 1) * plan.batch_size])
            targets = {name: torch.from_numpy(array) for name, array in batch.targets.items()}
            method.on_step(soft, (epoch * batches + number) / (plan.epochs * batches))
            plan.optimizer.zero_grad(set_to_none=True)
            loss = method.loss(soft, (torch.from_numpy(batch.inputs["image"]),), targets, task)
            loss.backward()  # type: ignore[no-untyped-call]
            if plan.clip_norm is not None:
                nn.utils.clip_grad_norm_(parameters, plan.clip_norm)
            plan.optimizer.step()
            if plan.scheduler is not None:
                plan.scheduler.step()
            losses += float(loss.detach())
        print(f"epoch {epoch + 1:2d}  loss {losses / batches:.3f}  {time.monotonic() - started:.0f} s", flush=True)
    soft.eval()
    trained: SoftDetector = soft
    return trained


def figures(method: DB, task: Pages, soft: SoftDetector) -> dict[str, Any]:
    """Measure both forms on test pages and on the photograph."""
    samples = task.samples("test")
    images = torch.from_numpy(samples.inputs["image"].copy())
    hard = harden(soft, task.example())
    settings = dict(hard.decoder_config)
    steps: list[Tensor] = []
    with torch.no_grad():
        probability = torch.cat([hard.module(part) for part in torch.split(images, 8)]).numpy()
        for part in torch.split(images, 8):
            steps.append(soft.maps(part).binary)
    # The soft form's own bitmap is B > 0.5, which is P > T; its boxes are scored by B.
    binary = torch.cat(steps).numpy()
    flips = float(((probability > method.config.threshold) != (binary > 0.5)).mean())
    result: dict[str, Any] = {
        "bitmap pixels that differ between P > T and P > 0.3": round(flips, 5),
        "share of P in (0.1, 0.9)": round(float(((probability > 0.1) & (probability < 0.9)).mean()), 4),
    }
    parts = {
        "all": slice(None),
        "known": samples.targets["held_out"] == 0,
        "held out": samples.targets["held_out"] == 1,
    }
    for name, part in parts.items():
        chosen = samples.take(np.arange(len(samples))[part])
        result[f"test pages, {name} typefaces, hard"] = task.score(
            {"probability": probability[part]}, chosen, settings
        ).text()
        result[f"test pages, {name} typefaces, soft"] = task.score(
            {"probability": binary[part]}, chosen, {**settings, "threshold": 0.5}
        ).text()

    def detect(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.no_grad():
            return np.asarray(hard.module(torch.from_numpy(image)))

    for short_side in (192, 256, 320, 384, SHORT_SIDE):
        score = score_photograph(detect, short_side=short_side, settings=settings)
        result[f"photograph, short side {short_side}, hard"] = score.text()
    if importlib.util.find_spec("rapidocr_onnxruntime"):
        result |= others()
    return result


def others() -> dict[str, str]:
    """Measure PP-OCRv4's detector on the photograph, with its own settings and with our way to score."""
    session = onnxruntime.InferenceSession(detector_model()[0], providers=["CPUExecutionProvider"])

    def detect(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.asarray(session.run(None, {session.get_inputs()[0].name: detector_input(image)})[0])

    ways = {
        "PP-OCRv4": DECODER_SETTINGS,
        "PP-OCRv4 scored over outlines": {**DECODER_SETTINGS, "score_over": "outline"},
    }
    return {
        f"photograph, short side {side}, {way}": score_photograph(detect, short_side=side, settings=settings).text()
        for way, settings in ways.items()
        for side in (192, 384, SHORT_SIDE)
    }


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, required=True, help="folder for soft.safetensors and figures.json")
    parser.add_argument("--measure", action="store_true", help="do not train: measure the file in the folder")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    method, task = deploykit.make_method("binarized.db"), deploykit.make_task("pages")
    assert isinstance(method, DB)
    assert isinstance(task, Pages)
    weights = arguments.out / "soft.safetensors"
    if arguments.measure:
        soft: Any = build(method, task).eval()
        soft.load_state_dict(load_file(weights))
    else:
        soft = train(method, task, arguments.seed)
        arguments.out.mkdir(parents=True, exist_ok=True)
        state = {name: tensor.contiguous() for name, tensor in soft.state_dict().items()}
        save_file(state, weights, metadata={"method": "binarized.db", "task": "pages"})
    measured = figures(method, task, soft)
    (arguments.out / "figures.json").write_text(json.dumps(measured, indent=2) + "\n")
    for name, value in measured.items():
        print(f"{name:65s} {value}")


if __name__ == "__main__":
    main()
