"""Light-PEFT: its scores by hand, what it finds where it was planted, and what is saved."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bench import lora, run, workbench
from peft import PeftModel

from autopeft.errors import SpecError
from autopeft.execute.workbench import Workbench
from autopeft.layerwise.light_peft import LightPeft, estimation_steps
from autopeft.layerwise.padding import padded
from autopeft.layerwise.ranking import lowest, rank_scores, second_half
from autopeft.layerwise.structure import PRUNING, Pruning, columns_of, load_pruned
from autopeft.merged import check_merges
from autopeft.trial import TrialState
from autopeft_searchspace.configuration import Component, Configuration
from autopeft_searchspace.shape import LinearShape, ModelShape
from autopeft_searchspace.strategies import published


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return workbench(tmp_path_factory.mktemp("light"))


def test_rank_scores_follow_an_example_worked_by_hand() -> None:
    """Rank 0: |mean(1*2, 3*(-4))| + |mean(1*1, 0*5)| = 5 + 1/2. Rank 1: |mean(2*1, 0)| + |mean(2*1, 4*1)| = 1 + 3."""
    down, down_gradient = torch.tensor([[1.0, 3.0], [2.0, 0.0]]), torch.tensor([[2.0, -4.0], [1.0, 9.0]])
    up, up_gradient = torch.tensor([[1.0, 2.0], [0.0, 4.0]]), torch.tensor([[1.0, 1.0], [5.0, 1.0]])
    assert rank_scores(down, down_gradient, up, up_gradient).tolist() == [5.5, 4.0]


def test_the_lowest_third_goes_and_the_second_half_counts() -> None:
    assert lowest([3.0, 1.0, 2.0, 1.0], 0.5) == {1, 3}
    assert lowest([1.0] * 12, 1 / 3) == {0, 1, 2, 3}
    assert second_half([1, 2, 3, 4, 5]) == [3, 4, 5]
    assert [estimation_steps(0.04, steps) for steps in (1000, 10, 2)] == [40, 2, 1]


def test_planted_redundant_heads_and_units_are_found(tmp_path: Path) -> None:
    """Heads and units whose outputs nobody reads: their masks only feel the penalty, and fall."""
    bench = workbench(tmp_path)
    base = bench.model.backbone.base_model
    for layer in range(3):
        base.get_submodule(bench.shape.modules["o"][layer].path).weight.data[:, 8 * (layer % 2) : 8 * (layer % 2) + 8] = 0
        base.get_submodule(bench.shape.modules["ff_out"][layer].path).weight.data[:, 24:] = 0
    strategy = published("light_peft", estimation=0.8, heads=0.25, units=0.5, modules=0.0, ranks=0.0, l1=1e-6)
    found: dict[str, Any] = {}

    def look(bench: Workbench) -> None:
        assert isinstance(bench.strategy, LightPeft)
        found["pruning"] = bench.strategy.pruning

    outcome, _ = run(bench, lora(strategy, roles=("q",)), steps=40, at_end=look)
    assert outcome.state is TrialState.COMPLETE, outcome.reason
    assert all(layer % 2 not in heads for layer, heads in found["pruning"].heads.items())
    assert all(units == tuple(range(24)) for units in found["pruning"].units.values())


@pytest.mark.parametrize(
    "component",
    [
        Component("lora", 4, (0, 1, 2), ("q", "o", "ff_in"), {"alpha": 4}),
        Component("parallel", 4, (0, 1, 2), options={"place": "attention", "bias": True}),
    ],
    ids=lambda c: c.type,
)
def test_what_is_saved_is_the_small_model_with_its_small_adapter(
    bench: Workbench, component: Component, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {n: p.detach().clone() for n, p in bench.model.backbone.named_parameters()}
    strategy = published("light_peft", estimation=0.4, modules=0.5)
    hidden: dict[str, torch.Tensor] = {}
    batch = {"input_ids": torch.tensor([[4, 5, 6]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}

    def look(bench: Workbench) -> None:
        bench.model.eval()
        hidden["trained"] = bench.model.backbone(**batch).last_hidden_state.detach()

    outcome, seen = run(bench, Configuration((component,), 1e-2, strategy), steps=8, save_to=str(tmp_path / "adapter"), at_end=look)
    assert outcome.state is TrialState.COMPLETE, outcome.reason
    assert seen is not None
    again = PeftModel.from_pretrained(load_pruned(tmp_path / "adapter" / "base_model"), tmp_path / "adapter").eval()
    torch.testing.assert_close(again(**batch).last_hidden_state, hidden["trained"], rtol=1e-5, atol=1e-6)
    monkeypatch.chdir(tmp_path / "adapter")
    code = Path("README.md").read_text("utf-8").split("```python\n")[1].split("```")[0]
    made: dict[str, Any] = {}
    exec(code, made)
    torch.testing.assert_close(made["model"](**batch).last_hidden_state, hidden["trained"], rtol=1e-5, atol=1e-6)
    whole = _without_what_was_pruned(bench, tmp_path / "adapter" / "base_model")
    plugged = PeftModel.from_pretrained(whole, tmp_path / "adapter" / "for_full_base").eval()
    torch.testing.assert_close(plugged(**batch).last_hidden_state, hidden["trained"], rtol=1e-5, atol=1e-6)
    assert seen.measurements["kept_parameters"].value < seen.measurements["most_trained_parameters"].value
    assert seen.measurements["base_parameters"].value < bench.shape.total_parameters
    assert {name.split(".")[1] for name in seen.measurements if name.startswith("importance.")} == {"0", "1", "2"}
    assert all(torch.equal(p, before[n]) for n, p in bench.model.backbone.named_parameters())
    assert dict(bench.model.backbone.named_parameters()).keys() == before.keys()


def _without_what_was_pruned(bench: Workbench, pruned: Path) -> Any:
    """The full base, where nothing reads the heads and units that were pruned."""
    whole = copy.deepcopy(bench.model.backbone)
    kept = Pruning.from_json(json.loads((pruned / PRUNING).read_text("utf-8")))
    for layer in range(bench.shape.layers):
        heads = columns_of(kept.heads[layer], bench.shape.width, bench.shape.key_value_heads)
        for role, stay in (("o", heads), ("ff_out", kept.units[layer])):
            weight = whole.base_model.get_submodule(bench.shape.modules[role][layer].path).weight.data
            weight[:, [i for i in range(weight.shape[1]) if i not in stay]] = 0
    return whole


def test_padding_follows_an_example_worked_by_hand() -> None:
    """Two heads of two features, the first pruned; of three units the second: rows of B of q, columns of A of ff_out."""
    modules = {role: (LinearShape(f"l.0.{role}", 4, 4),) for role in ("q", "k", "v", "o")}
    modules |= {"ff_in": (LinearShape("l.0.ff_in", 4, 3),), "ff_out": (LinearShape("l.0.ff_out", 3, 4),)}
    shape = ModelShape("bert", "encoder", 4, 1, 4, 100, modules, key_value_heads=2)
    state = {
        "base_model.model.l.0.q.lora_A.weight": torch.ones(1, 4),
        "base_model.model.l.0.q.lora_B.weight": torch.tensor([[1.0], [2.0]]),
        "base_model.model.l.0.ff_out.lora_A.weight": torch.tensor([[3.0, 4.0]]),
    }
    found = padded(state, shape, Pruning({0: (1,)}, {0: (0, 2)}))
    assert [tensor.tolist() for tensor in found.values()] == [[[1, 1, 1, 1]], [[0], [0], [1], [2]], [[3, 0, 4]]]


def test_other_adapter_types_are_refused_with_the_reason(bench: Workbench) -> None:
    ia3 = Configuration((Component("ia3", 1, (0, 1), ("k", "v", "ff_out")),), 1e-2, published("light_peft"))
    outcome, _ = run(bench, ia3)
    assert "light_peft works on lora, rslora, serial, parallel, not on ia3" in outcome.reason


def test_a_merge_is_refused_before_anything_trains() -> None:
    with pytest.raises(SpecError, match="light_peft makes the base model a smaller one"):
        check_merges(lora(published("light_peft")))
