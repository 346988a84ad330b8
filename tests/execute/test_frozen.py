"""Hidden states that trials share: the numbers of doing without, and nothing where something could change them."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_base
import torch
from small import small_spec

from autopeft.execute.frozen import FrozenLayers, Scratch, untouched_layers
from autopeft.execute.workbench import Workbench
from autopeft.models.roles import transformer_blocks
from autopeft.spec_file import read_spec
from autopeft.trial import Observation, TrialSpec
from autopeft_searchspace.configuration import Component, Configuration

STEPS = 6
TOP = Configuration((Component("lora", 4, (2,), ("q", "v"), {"alpha": 8}),), 1e-2)
MIDDLE = Configuration((Component("serial", 4, (1, 2), (), {"place": "feed_forward", "bias": True}), Component("prefix", 2, (2,))), 1e-2)
BOTTOM = Configuration((Component("lora", 4, (0,), ("q", "v"), {"alpha": 8}),), 1e-2)
HEAD = Configuration((), 1e-2)


def bench(folder: Path, architecture: str, **settings: object) -> Workbench:
    base = tiny_base.save_base(folder / f"base-{architecture}", architecture)
    data = {"source": "data", "max_length": 16}
    path = small_spec(folder, model={"base": str(base)}, data=data, training={"batch_size": 32}, **settings)
    return Workbench(*read_spec(path, environ={}), "cpu")


def observe(where: Workbench, configuration: Configuration) -> list[Observation]:
    found: list[Observation] = []

    def at_rung(observation: Observation) -> bool:
        found.append(observation)
        return True

    outcome = where.run(TrialSpec(0, configuration, 0, (STEPS // 2, STEPS)), at_rung)
    assert outcome.reason == ""
    return found


def told(observations: list[Observation]) -> list[object]:
    """All but what depends on the clock."""
    return [(o.curve, {name: m for name, m in o.measurements.items() if "seconds" not in name}) for o in observations]


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_shared_layers_change_no_number(tmp_path: Path, architecture: str) -> None:
    shares, alone = bench(tmp_path, architecture), bench(tmp_path, architecture, share_frozen_layers=False)
    for configuration in (TOP, HEAD, MIDDLE, BOTTOM):
        expected = told(observe(alone, configuration))
        first = shares.frozen.found
        assert told(observe(shares, configuration)) == expected
        assert told(observe(shares, configuration)) == expected
        assert (shares.frozen.found > first) == (configuration != BOTTOM)
    assert (alone.frozen.found, alone.frozen.missed, alone.frozen.bytes) == (0, 0, 0)
    assert not any("forward" in vars(module) for module in shares.model.modules())


def test_layers_count_as_untouched_up_to_the_first_that_is_adapted(tmp_path: Path) -> None:
    where = bench(tmp_path, "bert")
    found = []
    for configuration in (HEAD, TOP, MIDDLE, BOTTOM):
        where.build(configuration, 0)
        found.append(untouched_layers(where.model.adapter_parameters(), where.blocks))
        where.restore()
    assert found == [3, 2, 1, 0]
    outside = torch.nn.Parameter(torch.zeros(1))
    assert untouched_layers([outside], where.blocks) == 0


def test_what_does_not_fit_is_computed_as_ever(tmp_path: Path) -> None:
    where = bench(tmp_path, "bert")
    expected = told(observe(where, TOP))
    where.frozen = FrozenLayers(10_000)
    assert told(observe(where, TOP)) == expected
    assert where.frozen.bytes <= 10_000


def test_what_memory_does_not_hold_lies_in_a_file_without_a_name(tmp_path: Path) -> None:
    where = bench(tmp_path, "bert")
    expected, before = told(observe(where, TOP)), set(tmp_path.iterdir())
    scratch = Scratch(tmp_path, 10**6)
    where.frozen = FrozenLayers(0, scratch)
    assert told(observe(where, TOP)) == expected
    kept, found = scratch.bytes, where.frozen.found
    assert 0 < kept <= 10**6
    assert told(observe(where, TOP)) == expected
    assert where.frozen.found > found
    assert scratch.bytes == kept
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tensor_in_a_file_is_what_it_was(tmp_path: Path, dtype: torch.dtype) -> None:
    scratch, tensors = Scratch(tmp_path, 10**6), {(1, b"a"): torch.randn(2, 3, 4).to(dtype), (1, b"b"): torch.randn(5).to(dtype)}
    for key, tensor in tensors.items():
        scratch.keep(key, tensor)
    for key, tensor in tensors.items():
        found = scratch.get(key)
        assert found is not None
        assert torch.equal(found, tensor)
    assert scratch.get((2, b"a")) is None


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = bench(tmp_path, "bert")
    expected = told(observe(where, TOP))
    where.frozen = FrozenLayers(0, Scratch(tmp_path / "missing", 10**6))
    assert told(observe(where, TOP)) == expected
    assert capsys.readouterr().err.count("kept in memory alone") == 1


def test_a_wrong_state_is_found_out_and_nothing_is_shared_any_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = bench(tmp_path, "bert")
    expected = told(observe(where, TOP))
    where.frozen = FrozenLayers(10**9)
    observe(where, HEAD)
    for key, hidden in where.frozen._kept.items():
        where.frozen._kept[key] = hidden + 1
    where.frozen._checked.clear()
    assert told(observe(where, HEAD)) == told(observe(where, HEAD))
    assert "not shared" in capsys.readouterr().err
    assert not where.frozen.shares
    assert told(observe(where, TOP)) == expected


def test_a_layer_that_gives_more_than_hidden_states_is_not_passed_through(tmp_path: Path) -> None:
    where = bench(tmp_path, "bert")
    blocks = transformer_blocks(where.model.backbone, where.shape)
    own = blocks[0].forward
    blocks[0].forward = lambda *args, **kwargs: (own(*args, **kwargs),)
    blocks[1].forward = lambda states, *args, inner=blocks[1].forward, **kwargs: inner(states[0], *args, **kwargs)
    assert observe(where, TOP)
    assert where.frozen.found == where.frozen.bytes == 0
