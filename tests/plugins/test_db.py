"""Differentiable binarization: heads, sizes, written files, the trained example."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

import deploykit
from deploykit.errors import ConfigError, ContractError, SignatureError
from deploykit.lifecycle import build
from deploykit_binarized.db import DB
from deploykit_binarized.db_network import HardDetector, SmallBackbone, SoftDetector
from deploykit_tasks.pages import Pages

CHECKPOINT = Path(__file__).resolve().parents[2] / "examples" / "text_detector" / "soft.safetensors"
TRAINED_F1, TRAINED_RECALL = 0.93, 0.8
LINE = np.array([[10, 12], [52, 16], [50, 32], [8, 28]], np.float64)


@pytest.fixture
def task() -> Pages:
    made = deploykit.make_task("pages")
    assert isinstance(made, Pages)
    return made


@pytest.fixture
def soft(task: Pages) -> SoftDetector:
    torch.manual_seed(0)
    made = build(deploykit.make_method("binarized.db"), task).eval()
    assert isinstance(made, SoftDetector)
    return made


# Forms


def test_the_hard_form_gives_the_same_map_without_the_threshold_head(task: Pages, soft: SoftDetector) -> None:
    image = task.example()[0][:, :, :64, :96].contiguous()
    hard = deploykit.harden(soft, image)
    with torch.no_grad():
        torch.testing.assert_close(hard.module(image), soft(image), rtol=1e-5, atol=1e-6)
        maps = soft.maps(image)
    assert isinstance(hard.module, HardDetector)
    kept, all_of_it = (sum(p.numel() for p in module.parameters()) for module in (hard.module, soft))
    dropped = sum(p.numel() for p in soft.threshold_head.parameters())
    assert kept < all_of_it - dropped  # batch norms went too
    assert hard.decoder == "text-boxes"
    deploykit.make_decoder(hard.decoder, hard.decoder_config)
    method = DB()
    assert np.array_equal(method.decisions(soft, (image,))["bitmap"].value, (maps.binary > 0.5).numpy())
    assert np.array_equal(method.decisions(hard.module, (image,))["bitmap"].value, (hard.module(image) > 0.3).numpy())


def test_the_baseline_is_the_network_with_both_heads(task: Pages, soft: SoftDetector) -> None:
    image = task.example()[0][:, :, :64, :64].contiguous()
    baseline = DB().baseline(soft)
    with torch.no_grad():
        torch.testing.assert_close(baseline(image), soft.maps(image).binary)
    assert sum(p.numel() for p in baseline.parameters()) == sum(p.numel() for p in soft.parameters())


class OwnBackbone(nn.Module):
    """A user's own: pools instead of strides, twelve channels everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 12, 4, stride=4)
        self.rest = nn.ModuleList(nn.Conv2d(12, 12, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [torch.nn.functional.gelu(self.first(x))]
        for layer in self.rest:
            maps.append(torch.nn.functional.avg_pool2d(layer(maps[-1]), 2))
        return maps


def test_a_users_own_backbone_becomes_a_detector(task: Pages) -> None:
    example = task.example()
    soft: Any = deploykit.prepare(OwnBackbone(), "binarized.db", example, signature=task.signature, width=16)
    hard = deploykit.harden(soft)
    wanted = DB().oracle(soft, example)["probability"]
    with torch.no_grad():
        np.testing.assert_allclose(hard.module(*example).numpy(), wanted, atol=1e-5)


def test_what_is_no_backbone_is_refused(task: Pages) -> None:
    example = task.example()
    with pytest.raises(ContractError, match=r"Conv2d must return a tuple of four maps at strides 4, 8, 16 and 32"):
        deploykit.prepare(nn.Conv2d(3, 8, 3), "binarized.db", example, signature=task.signature)
    with pytest.raises(ContractError, match=r"pass signature=deploykit.make_task\('pages'\).signature"):
        deploykit.prepare(OwnBackbone(), "binarized.db", example[0].float())


def test_a_task_without_lines_is_refused(task: Pages, soft: SoftDetector) -> None:
    with pytest.raises(ConfigError, match=r"targets 'quads' .* got \['label'\]"):
        DB().loss(soft, task.example(), {"label": torch.zeros(2)}, task)


@pytest.mark.parametrize(("height", "width"), [(33, 64), (64, 100)])
def test_sizes_between_multiples_of_32_are_refused(task: Pages, height: int, width: int) -> None:
    with pytest.raises(SignatureError, match=r"must be a multiple of 32, got (33|100)"):
        task.signature.check_inputs({"image": np.zeros((1, 3, height, width), np.uint8)})


# Files


@pytest.fixture(scope="module")
def file_of(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, HardDetector]:
    """Write a hard form with free batch, height and width."""
    torch.manual_seed(0)
    task = deploykit.make_task("pages")
    soft = build(deploykit.make_method("binarized.db"), task).eval()
    module: Any = deploykit.harden(soft).module
    path = tmp_path_factory.mktemp("db") / "db.onnx"
    free = torch.export.Dim.DYNAMIC
    image = task.example(3)
    shapes = ({0: torch.export.Dim("batch", max=64), 2: free, 3: free},)
    program = torch.onnx.export(
        module, image, dynamo=True, dynamic_shapes=shapes, input_names=["image"], output_names=["probability"],
        verbose=False,
    )  # fmt: skip
    assert program is not None
    program.save(path)
    return path, module


def test_one_file_serves_every_size(file_of: tuple[Path, HardDetector]) -> None:
    path, module = file_of
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for shape in ((1, 3, 64, 96), (2, 3, 256, 256), (5, 3, 32, 32), (1, 3, 736, 1024)):
        image = torch.randint(0, 256, shape, dtype=torch.uint8)
        with torch.no_grad():
            wanted = module(image).numpy()
        (got,) = session.run(["probability"], {"image": image.numpy()})
        np.testing.assert_allclose(got, wanted, atol=1e-5)
        far = np.abs(wanted - 0.3) > 1e-5
        assert np.array_equal((got > 0.3)[far], (wanted > 0.3)[far])


def test_the_file_holds_no_trace_of_the_threshold_head(file_of: tuple[Path, HardDetector]) -> None:
    model = onnx.load(file_of[0])
    names = [tensor.name for tensor in model.graph.initializer]
    assert not [name for name in names if "threshold" in name]
    assert any("probability_head" in name for name in names)
    operators = {node.op_type for node in model.graph.node}
    assert operators <= {"Cast", "Div", "Sub", "Conv", "Relu", "Resize", "Add", "Concat", "ConvTranspose", "Sigmoid"}
    assert len(model.graph.output) == 1


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
def test_tensorrt_builds_an_engine_for_a_range_of_sizes(file_of: tuple[Path, HardDetector]) -> None:
    import tensorrt_rtx

    builder = tensorrt_rtx.Builder(tensorrt_rtx.Logger(tensorrt_rtx.Logger.ERROR))
    network = builder.create_network(0)
    parser = tensorrt_rtx.OnnxParser(network, tensorrt_rtx.Logger(tensorrt_rtx.Logger.ERROR))
    assert parser.parse(file_of[0].read_bytes()), [parser.get_error(i).desc() for i in range(parser.num_errors)]
    settings = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape("image", (1, 3, 32, 32), (1, 3, 736, 1024), (8, 3, 2048, 2048))
    settings.add_optimization_profile(profile)
    assert builder.build_serialized_network(network, settings) is not None


# The trained example


def test_the_trained_example_finds_lines_on_pages_and_on_a_photograph(task: Pages) -> None:
    from deploykit_tasks.pages_photographs import score_photograph

    method = deploykit.make_method("binarized.db")
    soft = build(method, task).eval()
    soft.load_state_dict(load_file(CHECKPOINT))
    hard = deploykit.harden(soft)
    samples = task.samples("test").take(slice(0, 40))

    def detect(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.no_grad():
            return np.asarray(hard.module(torch.from_numpy(image.copy())))

    score = task.score({"probability": detect(samples.inputs["image"])}, samples, hard.decoder_config)
    assert score.f1 > TRAINED_F1, score.text()
    photograph = score_photograph(detect, settings=hard.decoder_config)
    assert photograph.recall > TRAINED_RECALL, photograph.text()
    assert CHECKPOINT.stat().st_size <= 5_000_000


def test_training_lowers_the_loss(task: Pages) -> None:
    torch.manual_seed(0)
    method = deploykit.make_method("binarized.db", {"width": 16})
    soft: Any = build(method, task).train()
    samples = task.samples("calibration").take(slice(0, 2))
    image = torch.from_numpy(samples.inputs["image"].copy())
    targets = {name: torch.from_numpy(array.copy()) for name, array in samples.targets.items()}
    optimizer = torch.optim.AdamW(soft.parameters(), lr=2e-2)
    losses = []
    for _ in range(24):
        optimizer.zero_grad()
        loss = method.loss(soft, (image,), targets, task)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_the_backbone_has_the_strides_it_says() -> None:
    with torch.no_grad():
        maps = SmallBackbone().eval()(torch.zeros(1, 3, 64, 96))
    assert [tuple(level.shape) for level in maps] == [(1, 32, 16, 24), (1, 64, 8, 12), (1, 96, 4, 6), (1, 128, 2, 3)]
