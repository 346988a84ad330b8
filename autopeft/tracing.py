"""Peak memory of a training step, traced without weights and without the device.

The step runs on fake tensors (`torch._subclasses.fake_tensor`): sizes, types and lifetimes are those
of the real step, since autograd, autocast and the optimiser are the real ones, but no storage is
filled. A dispatch mode counts the bytes of every storage from its creation to the moment when the
last reference is gone. Scratch memory inside one operator is not seen. Nothing here is random.

On the CPU the result equals what `autopeft.meters` measures to within a few hundred bytes (scalars),
as long as the examples of the batch differ in length (transformers skips a mask that hides nothing).

For CUDA the same fake CPU tensors are used, because fake CUDA tensors abort the process where PyTorch
was built without CUDA; what CUDA does differently is put in its place by `_CudaRules`: attention
kernels with a log-sum-exp, autocast's float32 operators, the multi-tensor AdamW, and blocks of 512
bytes. Library workspaces (cuBLAS) and rounding above 1 MiB are left to `memory.calibrate`.
"""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
BLOCK_BYTES = {"cpu": 1, "cuda": 512}
"""What the allocator of a device rounds up to (c10/cuda/CUDACachingAllocator.h, kMinBlockSize)."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that live at the moment of the peak, of a step that is not the first.

    weights: parameters and buffers, frozen and trained, each storage once.
    gradients: of trained parameters, as far as they exist at that moment (hardly any when the peak
        stands at the start of the backward pass, as it does unless batches are tiny).
    optimizer: state of AdamW, all of it.
    activations: everything else: what the backward pass needs, temporaries, the batch.
    peak: their sum.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    peak: int

    def to_json(self) -> dict[str, int]:
        return asdict(self)


@dataclass
class Span:
    """A stretch of the step: bytes that live when it starts, and the highest sum until the next one."""

    name: str
    start: int
    highest: int


@dataclass(frozen=True)
class Trace:
    """spans: `forward i` and `backward i` of block i, `after i` behind its forward pass, `update`."""

    estimate: MemoryEstimate
    spans: tuple[Span, ...]


class StorageCounter(TorchDispatchMode):
    """Counts the bytes of live storages; `peak` is their highest sum."""

    def __init__(self, block_bytes: int = 1) -> None:
        super().__init__()
        self.live = self.peak = self.gradients_at_peak = 0
        self.spans = [Span("start", 0, 0)]
        self._block = block_bytes
        self.with_gradient: set[int] = set()
        self._gradients: list[weakref.ref[Any]] = []
        self._seen: dict[int, tuple[weakref.ref[Any], int]] = {}

    def mark(self, name: str) -> None:
        """Start a new span."""
        self.spans.append(Span(name, self.live, self.live))

    def add(self, tensors: Iterable[Any]) -> int:
        """Count tensors that exist already; returns the bytes that were not counted before."""
        before = self.live
        for tensor in tensors:
            if isinstance(tensor, Tensor):
                self._count(tensor)
        return self.live - before

    def add_gradient(self, parameter: Tensor) -> None:
        self.with_gradient.add(id(parameter))
        if parameter.grad is not None:
            self._gradients.append(weakref.ref(parameter.grad.untyped_storage()))

    def bytes_of(self, tensors: Iterable[Tensor]) -> int:
        """Bytes of tensors that are counted now."""
        keys = {id(tensor.untyped_storage()) for tensor in tensors}
        return sum(self._seen[key][1] for key in keys if key in self._seen)

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key in self._seen:
            return
        size = -(-storage.nbytes() // self._block) * self._block

        def gone(_: Any) -> None:
            self.live -= self._seen.pop(key)[1]

        self._seen[key] = weakref.ref(storage, gone), size
        self.live += size
        self.spans[-1].highest = max(self.spans[-1].highest, self.live)
        if self.live > self.peak:
            self.peak, self.gradients_at_peak = self.live, self._live_gradients()

    def _live_gradients(self) -> int:
        keys = {id(storage) for ref in self._gradients if (storage := ref()) is not None}
        return sum(self._seen[key][1] for key in keys if key in self._seen)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        if func is torch.ops.prim.device.default:  # by far the most frequent
            return args[0].fake_device
        if func is aten._local_scalar_dense.default:  # fake tensors have no values: losses are finite, and so are gradients
            return True if args[0].dtype is torch.bool else 1.0 if args[0].dtype.is_floating_point else 1
        out = func(*args, **(kwargs or {}))
        self.add(tree_leaves(out))
        return out


class _CudaRules(TorchFunctionMode):
    """Makes operators on CPU tensors allocate what they would allocate on CUDA."""

    FLOAT32 = frozenset({F.layer_norm, F.group_norm, F.softmax, F.log_softmax, F.cross_entropy, F.mse_loss, F.nll_loss,
                         torch.softmax, torch.log_softmax, torch.pow, torch.rsqrt, torch.exp, torch.log, torch.cumsum, torch.prod,
                         torch.norm, Tensor.softmax, Tensor.log_softmax, Tensor.pow, Tensor.rsqrt, Tensor.exp, Tensor.log,
                         Tensor.cumsum, Tensor.prod, Tensor.norm})  # fmt: skip
    """Operators that autocast runs in float32 on CUDA (aten/src/ATen/autocast_mode.h, AT_FORALL_FP32)."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return _cuda_attention(*args, **kwargs)
        if func in self.FLOAT32 and torch.is_autocast_enabled("cpu"):
            args = tuple(a.float() if isinstance(a, Tensor) and a.dtype is torch.bfloat16 else a for a in args)
        return func(*args, **kwargs)


def _cuda_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """FlashAttention for half precision without a mask, else the memory-efficient kernel.

    query [batch, heads, tokens, size]; key and value [batch, key/value heads, keys, size].
    """
    if torch.is_autocast_enabled("cpu"):
        query, key, value = (t.to(torch.bfloat16) for t in (query, key, value))
    if attn_mask is None and query.dtype in (torch.float16, torch.bfloat16):
        return aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, scale=scale)[0]
    if enable_gqa:
        key, value = (t.repeat_interleave(query.shape[1] // t.shape[1], dim=1) for t in (key, value))
    bias = None
    if attn_mask is not None:
        bias = attn_mask.to(query.dtype) if attn_mask.dtype is not torch.bool else torch.where(attn_mask, query.new_zeros(()), -torch.inf)
        bias = bias.expand(*query.shape[:3], key.shape[2])
    return aten._scaled_dot_product_efficient_attention(query, key, value, bias, True, dropout_p, is_causal, scale=scale)[0]


def trace_step(
    module: nn.Module,
    step: Callable[[torch.optim.Optimizer | None, list[nn.Parameter]], object],
    make_optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
    device_type: str = "cpu",
    blocks: Sequence[nn.Module] = (),
) -> Trace:
    """Peak memory of training `module` on a device of `device_type`, `cpu` or `cuda`.

    module: on any device, its values do not matter. It is used up: its parameters and buffers become fake tensors.
    step: one optimiser step, including the making of its batch, on CPU tensors.
    make_optimizer: AdamW over the parameters that require gradients. Where there are none it is not
        called, and `step` gets no optimiser.
    blocks: modules of `module` whose spans are wanted.
    Raises what the step raises on shapes that do not fit.
    """
    counter = StorageCounter(BLOCK_BYTES[device_type])
    rules: AbstractContextManager[Any] = _CudaRules() if device_type == "cuda" else contextlib.nullcontext()
    collecting = gc.isenabled()
    gc.disable()  # a collection at an odd moment would make the peak differ between runs
    try:
        with FakeTensorMode():
            _fake_weights(module)
            module.train()
            weights = counter.add([*module.parameters(), *module.buffers()])
            parameters = [p for p in module.parameters() if p.requires_grad]
            optimizer = make_optimizer(parameters) if parameters else None
            state = counter.add(_make_state(optimizer, device_type)) if optimizer else 0
            for parameter in parameters:
                parameter.register_post_accumulate_grad_hook(counter.add_gradient)
            _mark_spans(counter, blocks, optimizer)
            with counter, rules:
                step(optimizer, parameters)
    finally:
        if collecting:
            gc.enable()
    # What the loss does not depend on (a pooler) gets no state; here it had some all along.
    without = [optimizer.state[p] for p in parameters if optimizer and id(p) not in counter.with_gradient]
    idle = counter.bytes_of(tensor for moments in without for tensor in moments.values())
    gradients, state, peak = counter.gradients_at_peak, state - idle, counter.peak - idle
    return Trace(MemoryEstimate(weights, gradients, state, peak - weights - gradients - state, peak), tuple(counter.spans))


def _mark_spans(counter: StorageCounter, blocks: Sequence[nn.Module], optimizer: torch.optim.Optimizer | None) -> None:
    for i, block in enumerate(blocks):
        block.register_forward_pre_hook(lambda *_, name=f"forward {i}": counter.mark(name))

        def after(module: nn.Module, inputs: Any, output: Any, i: int = i) -> None:
            counter.mark(f"after {i}")
            hidden = output[0] if isinstance(output, tuple) else output
            if hidden.requires_grad:
                hidden.register_hook(lambda gradient: counter.mark(f"backward {i}"))

        block.register_forward_hook(after)
    if optimizer:
        optimizer.register_step_pre_hook(lambda *_: counter.mark("update"))


def _fake_weights(module: nn.Module) -> None:
    """Replace parameters, buffers and other tensors that modules hold by fake CPU ones; what was shared stays shared."""
    made: dict[int, Tensor] = {}

    def fake(tensor: Tensor) -> Tensor:
        if id(tensor) not in made:
            empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
            made[id(tensor)] = nn.Parameter(empty, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
        return made[id(tensor)]

    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = fake(tensor)
        held = [values for name, values in vars(part).items() if isinstance(values, dict) and name not in ("_parameters", "_buffers")]
        for values in (vars(part), *held):
            for name, value in values.items():
                if isinstance(value, Tensor):
                    values[name] = fake(value)


def _make_state(optimizer: torch.optim.Optimizer, device_type: str) -> list[Tensor]:
    """AdamW's state as it stands after the first step; returns the tensors that lie on the device.

    On CUDA all parameters of a group are updated at once. On the CPU they are updated one after
    another with two temporaries each, the second of which lives on during the next one's update, so
    that one pair decides the peak and is all that is left in its group (a third less to trace).
    """
    held: list[Tensor] = []
    for group in optimizer.param_groups:
        group["foreach"] = device_type == "cuda"  # the default of each device
        for parameter in group["params"]:
            first, second, count = torch.zeros_like(parameter), torch.zeros_like(parameter), torch.tensor(0.0)
            optimizer.state[parameter] = {"step": count, "exp_avg": first, "exp_avg_sq": second}
            held += [first, second] if device_type == "cuda" else [first, second, count]
        if device_type == "cpu":
            parameters = group["params"]
            last = max(range(len(parameters)), key=lambda i: 2 * parameters[i].numel() + (parameters[i - 1].numel() if i else 0))
            group["params"] = parameters[max(0, last - 1) : last + 1]
    return held
