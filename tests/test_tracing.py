"""Traced memory: equal to what is measured, and made of what it should be."""

from __future__ import annotations

from dataclasses import replace

import measuring
import pytest
import tiny_base
import torch
from torch.nn import functional as F

from autopeft.models.roles import find_shape
from autopeft.tracing import StorageCounter, _CudaRules, trace_step
from autopeft_searchspace.build import adapt
from autopeft_searchspace.configuration import Component, Configuration
from autopeft_searchspace.rules import trainable_parameters

HEAD_ONLY = Configuration((), 1e-3)
SMALL_LORA = Configuration((Component("lora", 2, (0,), ("q",), {"alpha": 2}),), 1e-3)
SCALARS = 4096
"""Bytes by which trace and measurement may differ: single numbers that one of them keeps longer."""
SCRATCH = 16_384
"""Bytes that oneDNN's bf16 products take beside their result on processors with AMX; elsewhere they take none."""


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    made = {}

    def base(architecture: str, head: str = "none", **settings):
        key = f"{architecture}-{head}-{sorted(settings.items())}"
        if key not in made:
            made[key] = tiny_base.save_base(folder / str(len(made)), architecture, head, **settings)
        return made[key]

    return base


def shape_of(base, kind="classification"):
    return find_shape(tiny_base.load(base, kind, weights=False)[0].backbone)


def composition(shape):
    return Configuration(
        (
            Component("serial", 8, (1, 2), (), {"place": "feed_forward", "bias": True}),
            Component("parallel", 4, (0, 2), (), {"place": "attention", "bias": True}),
            Component("prefix", 3, (2,)),
        ),
        1e-3,
    )


@pytest.mark.parametrize("architecture", ["bert", "llama", "mpnet"])
@pytest.mark.parametrize("make", [lambda shape: HEAD_ONLY, measuring.lora, composition, lambda shape: None])
def test_equals_the_measured_peak(bases, architecture, make):
    base = bases(architecture)
    configuration = make(shape_of(base))
    assert measuring.traced(base, configuration).estimate.peak == pytest.approx(measuring.measured(base, configuration), abs=SCALARS)


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_equals_the_measured_peak_under_autocast(bases, architecture):
    base, recipe = bases(architecture), measuring.reference(precision="bf16")
    configuration = measuring.lora(shape_of(base))
    traced = measuring.traced(base, configuration, recipe=recipe).estimate.peak
    assert traced == pytest.approx(measuring.measured(base, configuration, recipe=recipe), abs=SCALARS + SCRATCH)
    assert traced < measuring.traced(base, configuration, recipe=replace(recipe, precision="fp32")).estimate.peak


def test_equals_the_measured_peak_of_a_language_model(bases):
    base = bases("llama", "causal_lm")
    configuration = measuring.lora(shape_of(base, "causal_lm"))
    traced = measuring.traced(base, configuration, "causal_lm").estimate.peak
    assert traced == pytest.approx(measuring.measured(base, configuration, "causal_lm"), abs=SCALARS)


def test_tied_weights_count_once(bases):
    tied, untied = (
        measuring.traced(bases("llama", "causal_lm", tie_word_embeddings=tie), SMALL_LORA, "causal_lm").estimate.weights
        for tie in (True, False)
    )
    assert untied - tied == 4 * 64 * 32  # vocabulary x width


def test_parts_are_those_of_adamw(bases):
    """With one example of one token the peak stands at the update, where all gradients exist."""
    base = bases("bert")
    shape = shape_of(base)
    configuration = measuring.lora(shape, size=16)
    model, _ = measuring.build(base, "classification", configuration, weights=False)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == trainable_parameters(configuration, shape) + 32 * 3 + 3
    count = sum(1 for p in model.parameters() if p.requires_grad)

    def step(optimizer, parameters):
        batch = {name: torch.ones(1, 1, dtype=torch.long) for name in ("input_ids", "attention_mask")}
        F.cross_entropy(model(batch), torch.zeros(1, dtype=torch.long)).backward()
        optimizer.step()

    estimate = trace_step(model, step, torch.optim.AdamW).estimate
    assert estimate.gradients == 4 * trained
    assert estimate.optimizer == 8 * trained + 4 * count  # two moments, a step count per tensor
    frozen, _, _ = tiny_base.load(base, weights=False)
    own = sum(t.numel() * t.element_size() for t in [*frozen.parameters(), *frozen.buffers()])
    assert estimate.weights == own + 4 * trainable_parameters(configuration, shape)
    assert estimate.peak == estimate.weights + estimate.gradients + estimate.optimizer + estimate.activations


def test_frozen_blocks_keep_nothing(bases):
    base = bases("bert")
    shape = shape_of(base)
    peaks = [measuring.traced(base, measuring.lora(shape, layers=(layer,))).estimate.activations for layer in range(3)]
    assert peaks[0] > peaks[1] > peaks[2]


def test_is_the_same_every_time(bases):
    base = bases("bert")
    configuration = composition(shape_of(base))
    assert measuring.traced(base, configuration) == measuring.traced(base, configuration)


def test_grows_with_the_batch(bases):
    base = bases("bert")
    configuration = measuring.lora(shape_of(base))
    one, two, four = (
        measuring.traced(base, configuration, recipe=measuring.reference(batch_size=n)).estimate.activations for n in (6, 12, 24)
    )
    assert four - two == pytest.approx(2 * (two - one), rel=0.02)


def test_spans_follow_the_step(bases):
    base = bases("bert")
    trace = measuring.traced(base, measuring.lora(shape_of(base)))
    names = [span.name for span in trace.spans]
    forward = [f"{part} {i}" for i in range(3) for part in ("forward", "after")]
    assert names == ["start", *forward, "backward 2", "backward 1", "backward 0", "update"]
    assert max(span.highest for span in trace.spans) == trace.estimate.peak
    assert all(span.highest >= span.start for span in trace.spans)


def test_counts_blocks_of_the_cuda_allocator():
    counter = StorageCounter(512)
    assert counter.add([torch.zeros(1), torch.zeros(129)]) == 512 + 1024


def test_cuda_rules_pick_cuda_kernels_and_types(bases):
    base = bases("bert")
    configuration = measuring.lora(shape_of(base))
    cpu = measuring.traced(base, configuration, recipe=measuring.reference(precision="bf16")).estimate
    cuda = measuring.traced(base, configuration, recipe=measuring.reference(precision="bf16", device_type="cuda")).estimate
    assert cuda.weights % 512 == 0
    assert cuda.peak != cpu.peak
    seen = []

    class Seen(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    q = torch.empty(2, 4, 8, 16, device="meta")
    with Seen(), _CudaRules():
        F.scaled_dot_product_attention(q, q, q, attn_mask=torch.empty(2, 1, 8, 8, dtype=torch.bool, device="meta"))
        F.scaled_dot_product_attention(q.bfloat16(), q.bfloat16(), q.bfloat16())
        with torch.autocast("cpu", torch.bfloat16):
            assert F.layer_norm(q.bfloat16(), (16,)).dtype is torch.float32
    assert "_scaled_dot_product_efficient_attention" in seen
    assert "_scaled_dot_product_flash_attention" in seen


def test_the_update_of_many_tensors_at_once_costs_more_on_cuda(bases):
    """The multi-tensor AdamW holds temporaries of all tensors together."""
    base = bases("bert")
    shape = shape_of(base)
    recipe = replace(measuring.reference(), batch_size=1)
    configuration = measuring.lora(shape, size=32)
    updates = {}
    for device_type in ("cpu", "cuda"):
        trace = measuring.traced(base, configuration, recipe=replace(recipe, device_type=device_type))
        update = next(span for span in trace.spans if span.name == "update")
        updates[device_type] = update.highest - update.start
    assert updates["cuda"] > 4 * updates["cpu"]


def test_weightless_models_are_built_by_the_same_code(bases):
    base = bases("bert")
    model, _, _ = tiny_base.load(base, weights=False)
    shape = find_shape(model.backbone)
    adapt(model.backbone, composition(shape), shape, task_type=model.task_type)
    assert {p.device.type for p in model.parameters()} == {"meta"}
