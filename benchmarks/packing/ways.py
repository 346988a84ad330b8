"""Ways of making a training step of one or several trials of LoRA r=8 on q,v, which `throughput.py` compares.

    sequential          one trial as peft and our plain loop train it, operation by operation
    sequential-casting  the same as it comes: autocast casts the frozen weights in every step
    compiled            the same with forward and backward by torch.compile
    compiled-graphs     the same in its mode `reduce-overhead`, which records CUDA graphs of forward and backward
    graphs              the whole step of one trial (forward, backward, clipping, fused AdamW) as one CUDA graph, replayed
    graphs-compiled     the same with forward and backward by torch.compile first
    streams             several such graphs, each of a trial of its own, replayed side by side on streams of one process
    processes           `sequential` in several processes that share the device
    processes-graphs    `graphs` in several processes that share the device
    packed              several trials in one pass by `autopeft.packing`, all on the same batch
    packed-eager        the same without CUDA graphs
    packed-apart        as packed, with a batch of its own for each trial

Alternatives to packing get what speeds them up and a pack cannot have: no padding mask, hence neither its test nor attention that
reads it (the examples here are of one length), and AdamW fused into one kernel. `sequential` has neither: it is what one gets
without any effort. Data types are the study's in every way: bf16 autocast over weights in fp32, of whose frozen ones every way but
`sequential-casting` keeps copies in bf16 (`autopeft.casts`), as trials of a study do. Every way reads the loss of each step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, BertConfig, LlamaConfig, MPNetConfig, PretrainedConfig

from autopeft.casts import Casts
from autopeft.device import autocast, find_precision
from autopeft.models.head import TaskModel
from autopeft.models.roles import find_shape
from autopeft.packing.pack import Pack
from autopeft.packing.views import view_of
from autopeft.tasks import Batch
from autopeft.training import Recipe, make_optimizer, train_step
from autopeft_searchspace.build import adapt
from autopeft_searchspace.configuration import Component, Configuration

SHAPES: dict[str, Callable[[], PretrainedConfig]] = {
    "tiny": lambda: BertConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, vocab_size=1000),
    "minilm": lambda: BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536),
    "mpnet": lambda: MPNetConfig(),
    "llama-1b": lambda: LlamaConfig(
        vocab_size=32_000, hidden_size=2048, num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8, intermediate_size=8192,
        pad_token_id=0, use_cache=False,
    ),
}  # fmt: skip
LEARNING_RATE, DECAY, CLIP = 1e-3, 0.01, 1.0
SIDE_STEPS = 3
"""Steps on a side stream before a step is captured, as PyTorch asks for."""


class NeedsCuda(Exception):
    """A way that there is on a GPU alone."""


class Setting:
    """A model of a shape, a batch for it, and LoRA on all its layers. casts: of the model's weights; to be taken off after each way."""

    def __init__(self, shape: str, tokens: int, length: int, device: torch.device) -> None:
        with device:  # random weights of a large model take long on a CPU
            backbone = AutoModel.from_config(SHAPES[shape](), dtype=torch.float32).to(device)
            head = nn.Linear(backbone.config.hidden_size, 2)
        tokenizer: Any = SimpleNamespace(pad_token_id=0)
        self.model = TaskModel(backbone, head, "mean", tokenizer, {})
        self.model.set_base_dropout(False)
        self.shape, self.device, self.code = find_shape(backbone), device, sys.modules[type(backbone).__module__]
        self.rows, self.length = max(1, tokens // length), length
        precision = find_precision("auto", device)
        self.casts = Casts(device.type)
        self.recipe = Recipe("", "mean", "", "", length, length, device.type, precision, self.rows, 10**9, 0.06, DECAY, CLIP, False)
        lora = Component("lora", 8, tuple(range(self.shape.layers)), ("q", "v"), {"alpha": 8})
        self.configuration = Configuration((lora,), LEARNING_RATE)
        self.batch = self.draw()
        self.task: Any = SimpleNamespace(loss=lambda model, batch: F.cross_entropy(model(batch).float(), batch["labels"]))

    def draw(self) -> Batch:
        """A random batch."""
        ids = torch.randint(5, 1000, (self.rows, self.length), device=self.device)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[:, 0] % 2}

    def trial(self, *, casting: bool = False) -> TaskModel:
        """casting: in every step, as autocast does by itself."""
        model = view_of(self.model)
        model.backbone = adapt(model.backbone, self.configuration, self.shape, task_type="FEATURE_EXTRACTION").to(self.device)
        model.open_head()
        if self.recipe.precision == "bf16" and not casting:
            self.casts.put_on(model.backbone.modules())
        return model.train()


class Unpadded(nn.Module):
    """A trial's model without padding. ids [n, tokens] -> logits [n, 2]."""

    def __init__(self, model: TaskModel) -> None:
        super().__init__()
        assert model.head is not None
        self.backbone, self.head = model.backbone, model.head

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.backbone(input_ids=ids).last_hidden_state.float().mean(dim=1))


def _no_mask(*args: Any, **named: Any) -> None:
    """A plain function, which torch.compile can read."""


def _position_bias(self: Any, x: Tensor, position_ids: Tensor | None = None, num_buckets: int = 32) -> Tensor:
    """MPNet's, counted on the device: transformers up to 5.17 counts on the host and copies, which no capture allows."""
    at = torch.arange(x.size(1), device=x.device)
    values = self.relative_attention_bias(self.relative_position_bucket(at[None, :] - at[:, None], num_buckets=num_buckets))
    return values.permute(2, 0, 1).unsqueeze(0).expand(x.size(0), -1, -1, -1).contiguous()


@contextmanager
def without_masks(setting: Setting) -> Iterator[None]:
    """Where tracing or a capture runs, transformers makes a mask even without padding, since it may not look at numbers. Nothing
    comes from the host either."""
    with ExitStack() as stack:
        for name in ("create_bidirectional_mask", "create_causal_mask"):
            if hasattr(setting.code, name):
                stack.enter_context(mock.patch.object(setting.code, name, _no_mask))
        if hasattr(setting.code, "MPNetEncoder"):
            stack.enter_context(mock.patch.object(setting.code.MPNetEncoder, "compute_position_bias", _position_bias))
        yield


class WholeStep:
    """A step of one trial that waits for no number from the device, so that it can be captured whole.

    learning_rate: on the device, where a schedule can change it between replays.
    """

    def __init__(self, setting: Setting, *, compiled: bool = False) -> None:
        model, self._recipe, self._batch = Unpadded(setting.trial()), setting.recipe, setting.batch
        self._model: Any = torch.compile(model, dynamic=False) if compiled else model
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self.learning_rate = torch.tensor(LEARNING_RATE, device=setting.device)
        on_device = {"fused": True, "capturable": setting.device.type == "cuda"}
        self._optimizer = make_optimizer(self._parameters, self.learning_rate, DECAY, **on_device)

    def __call__(self) -> Tensor:
        """The loss before the update."""
        self._optimizer.zero_grad(set_to_none=True)
        with autocast(self._recipe.device_type, self._recipe.precision):
            loss = F.cross_entropy(self._model(self._batch["input_ids"]).float(), self._batch["labels"])
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, self._recipe.clip_norm)
        self._optimizer.step()
        return loss.detach()


class Captured:
    """A whole step as a CUDA graph with a memory pool of its own; its batch lies where it lay at the capture.

    stream: its own, on which it is captured: cuBLAS has one workspace for each stream, which graphs side by side must not share.
    """

    def __init__(self, step: WholeStep) -> None:
        self.stream = torch.cuda.Stream()
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            for _ in range(SIDE_STEPS):
                step()
        torch.cuda.synchronize()
        self._step, self._graph = step, torch.cuda.CUDAGraph()  # the step holds what the graph writes to
        with torch.cuda.graph(self._graph, stream=self.stream):
            self.loss = step()

    def replay(self) -> None:
        self._graph.replay()


def sequential(setting: Setting, trials: int, *, casting: bool = False) -> Callable[[], object]:
    model = setting.trial(casting=casting)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = make_optimizer(parameters, LEARNING_RATE, DECAY)
    return lambda: train_step(lambda: setting.task.loss(model, setting.batch), optimizer, parameters, setting.recipe)


def sequential_casting(setting: Setting, trials: int) -> Callable[[], object]:
    return sequential(setting, trials, casting=True)


def compiled(setting: Setting, trials: int, mode: str = "default") -> Callable[[], object]:
    model = Unpadded(setting.trial())
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = make_optimizer(parameters, LEARNING_RATE, DECAY, fused=True)
    run: Any = torch.compile(model, mode=mode, dynamic=False)
    ids, labels = setting.batch["input_ids"], setting.batch["labels"]
    return lambda: train_step(lambda: F.cross_entropy(run(ids).float(), labels), optimizer, parameters, setting.recipe)


def compiled_graphs(setting: Setting, trials: int) -> Callable[[], object]:
    require_cuda(setting)
    return compiled(setting, trials, "reduce-overhead")


def graphs(setting: Setting, trials: int, *, compiled: bool = False) -> Callable[[], object]:
    require_cuda(setting)
    captured = Captured(WholeStep(setting, compiled=compiled))

    def step() -> float:
        captured.replay()
        return float(captured.loss)

    return step


def graphs_compiled(setting: Setting, trials: int) -> Callable[[], object]:
    return graphs(setting, trials, compiled=True)


def streams(setting: Setting, trials: int) -> Callable[[], object]:
    require_cuda(setting)
    each = [Captured(WholeStep(setting)) for _ in range(trials)]

    def step() -> list[float]:
        now = torch.cuda.current_stream()
        for captured in each:
            captured.stream.wait_stream(now)
            with torch.cuda.stream(captured.stream):
                captured.replay()
        for captured in each:
            now.wait_stream(captured.stream)
        return torch.stack([captured.loss for captured in each]).tolist()

    return step


class PackedStep:
    """A step of a pack. same: whether all trials see one batch, as trials that run in step do."""

    def __init__(self, setting: Setting, trials: int, *, same: bool, graphs: bool) -> None:
        self._pack = Pack(setting.model, setting.shape, setting.task, setting.device, graphs=graphs, casts=setting.casts)
        for number in range(trials):
            self._pack.join(number, setting.trial(casting=True), setting.recipe, setting.configuration)
        self._batches = {number: setting.batch if same else setting.draw() for number in range(trials)}

    def __call__(self) -> None:
        for outcome in self._pack.step(self._batches).values():
            if isinstance(outcome, Exception):
                raise outcome

    @property
    def recorded(self) -> bool:
        """Whether it is by now the replay of a CUDA graph."""
        return len(self._pack._graphs) > 0


def packed(setting: Setting, trials: int) -> Callable[[], object]:
    return PackedStep(setting, trials, same=True, graphs=True)


def packed_eager(setting: Setting, trials: int) -> Callable[[], object]:
    return PackedStep(setting, trials, same=True, graphs=False)


def packed_apart(setting: Setting, trials: int) -> Callable[[], object]:
    return PackedStep(setting, trials, same=False, graphs=True)


def require_cuda(setting: Setting) -> None:
    if setting.device.type != "cuda":
        raise NeedsCuda("needs CUDA")


WAYS: dict[str, Callable[[Setting, int], Callable[[], object]]] = {
    "sequential": sequential,
    "sequential-casting": sequential_casting,
    "graphs": graphs,
    "packed": packed,
    "streams": streams,
    "processes-graphs": graphs,
    "processes": sequential,
    "packed-apart": packed_apart,
    "packed-eager": packed_eager,
    "compiled": compiled,
    "compiled-graphs": compiled_graphs,
    "graphs-compiled": graphs_compiled,
}
"""Name -> what makes a step of so many trials; of `processes`, of one trial in each."""
PACKED = ("packed", "packed-apart", "packed-eager")
RECORDED = ("packed", "packed-apart")
COMPILED = ("compiled", "compiled-graphs", "graphs-compiled")
PROCESSES = ("processes", "processes-graphs")
