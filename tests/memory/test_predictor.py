"""Predictions of a study: exact ones kept in a file, fast ones close to them."""

from __future__ import annotations

import json
from dataclasses import replace

import measuring
import numpy as np
import pytest
import tiny
import tiny_base
from scipy.stats import spearmanr

from autopeft.memory import MemoryEstimate, MemoryModel, MemoryPredictor
from autopeft.memory.model import Spots, block_features
from autopeft.memory.predictor import FILE, design
from autopeft.models.roles import find_shape
from autopeft_searchspace.configuration import Component, Configuration
from autopeft_searchspace.settings import build_space

LABELS = ("x", "y", "z")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """(predictor with a fitted model, what made it)"""
    folder = tmp_path_factory.mktemp("predictor")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tiny._ENCODER, "num_hidden_layers", 6)
        base = tiny_base.save_base(folder / "base", "bert")
    model, _, spec = tiny_base.load(base, weights=False)
    space = build_space("default", find_shape(model.backbone))
    predictor = MemoryPredictor(spec, space, measuring.reference(batch_size=16), LABELS, folder)
    assert predictor.model is predictor.model
    return predictor


def again(study, **changes):
    made = {"spec": study.spec, "space": study.space, "recipe": study.recipe, "labels": LABELS, **changes}
    return MemoryPredictor(*made.values(), study._path.parent)


def drawn(space, count, seed):
    rng = np.random.default_rng(seed)
    return [space.configuration(space.sample(rng)) for _ in range(count)]


def never(*_, **__):
    raise AssertionError("traced although the file has it")


def test_fast_is_close_to_exact_on_configurations_it_was_not_fitted_to(study):
    configurations = drawn(study.space, 12, seed=7)
    study.prepare(configurations)
    exact = np.array([study.exact(c).peak for c in configurations])
    fast = np.array([study.fast(c) for c in configurations])
    above = exact - study.head_only().peak
    assert np.median(np.abs(fast - exact) / above) < 0.01
    assert spearmanr(exact, fast)[0] > 0.99


def test_fast_is_exact_for_the_head_alone(study):
    assert study.fast(Configuration((), 1e-3)) == study.head_only().peak


def test_full_fine_tuning_needs_most(study):
    full = study.full()
    assert full.weights == pytest.approx(study.head_only().weights, rel=0.01)
    assert full.optimizer > full.weights
    assert full.peak > max(study.exact(c).peak for c in drawn(study.space, 5, seed=1))


def test_the_file_answers_after_a_restart(study, monkeypatch):
    configuration = drawn(study.space, 1, seed=3)[0]
    said = study.exact(configuration), study.fast(configuration), study.full()
    resumed = again(study)
    monkeypatch.setattr(resumed, "_trace", never)
    assert (resumed.exact(configuration), resumed.fast(configuration), resumed.full()) == said


def test_the_learning_rate_does_not_count(study, monkeypatch):
    configuration = drawn(study.space, 1, seed=3)[0]
    said = study.exact(configuration)
    monkeypatch.setattr(study, "_trace", never)
    assert study.exact(replace(configuration, learning_rate=0.1)) == said


def test_a_file_made_for_something_else_is_not_used(study):
    study.head_only()
    for change in (
        {"recipe": replace(study.recipe, batch_size=8)},
        {"recipe": replace(study.recipe, device_type="cuda")},
        {"labels": ("x", "y")},
        {"space": build_space("lora", study.space.shape)},
    ):
        other = again(study, **change)
        assert other._exact == {}
        assert other._model is None


def test_a_broken_file_is_replaced(study, tmp_path):
    (tmp_path / FILE).write_text('{"exact": ', encoding="utf-8")
    predictor = MemoryPredictor(study.spec, study.space, study.recipe, LABELS, tmp_path)
    assert predictor.head_only() == study.head_only()
    assert json.loads((tmp_path / FILE).read_text(encoding="utf-8"))["exact"]


def test_json_round_trips(study):
    assert MemoryModel.from_json(json.loads(json.dumps(study.model.to_json()))) == study.model
    estimate = study.head_only()
    assert MemoryEstimate(**json.loads(json.dumps(estimate.to_json()))) == estimate


def test_design_is_fixed_and_covers_every_lowest_adapter(study):
    space, spots = study.space, Spots(study.space.shape)
    chosen = design(space, spots)
    assert chosen == design(space, spots)
    seen = {
        name
        for c in chosen
        for name in block_features([x for x in c.components if min(x.layers) == min(y.layers[0] for y in c.components)], spots, True)
    }
    assert {f"lowest lora on {where}" for where in ("attention input", "o", "feed-forward input", "ff_out")} <= seen
    assert {f"lowest {name} on {role}" for name in ("serial", "parallel") for role in ("o", "ff_out")} <= seen
    assert "lowest prefix on attention" in seen


def test_features_say_what_sits_where(study):
    spots = Spots(study.space.shape)
    lora = Component("lora", 4, (0, 1), ("v", "ff_out"), {"alpha": 8})
    parallel = Component("parallel", 16, (1,), (), {"place": "attention", "bias": True})
    assert block_features([lora, parallel], spots, True) == {
        "block": 1.0,
        "weights": 4.0 * (32 + 32 + 48 + 32) + (2 * 32 + 1) * 16 + 32,
        "any on v": 1.0,
        "any on ff_out": 1.0,
        "any on o": 1.0,
        "reads attention input": 1.0,
        "lora on v": 1.0,
        "lora on ff_out": 1.0,
        "lora size": 8.0,
        "parallel on o": 1.0,
        "parallel size": 16.0,
        "lowest lora on attention input": 1.0,
    }
    assert block_features([], spots, False) == {"block": 1.0, "weights": 0.0}


@pytest.mark.slow
def test_other_spaces_fit_too(study, tmp_path):
    space = build_space("lora", study.space.shape)
    check_fit(MemoryPredictor(study.spec, space, study.recipe, LABELS, tmp_path))


def check_fit(predictor):
    configurations = drawn(predictor.space, 6, seed=5)
    exact = np.array([predictor.exact(c).peak for c in configurations])
    fast = np.array([predictor.fast(c) for c in configurations])
    static = predictor.exact(Configuration((), 1.0)).weights
    assert np.median(np.abs(fast - exact) / (exact - static)) < 0.02


def test_without_a_head_nothing_trains_and_nothing_is_kept(tmp_path):
    base = tiny_base.save_base(tmp_path / "base", "llama", "causal_lm")
    model, _, spec = tiny_base.load(base, "causal_lm", weights=False)
    predictor = MemoryPredictor(spec, build_space("lora", find_shape(model.backbone)), measuring.reference("causal_lm"), (), tmp_path)
    least = predictor.head_only()
    assert (least.gradients, least.optimizer) == (0, 0)
    assert least.peak < predictor.exact(measuring.lora(predictor.space.shape, 1, (2,))).peak


@pytest.mark.slow
def test_decoders_fit_too(tmp_path):
    base = tiny_base.save_base(tmp_path / "base", "llama", "causal_lm")
    model, _, spec = tiny_base.load(base, "causal_lm", weights=False)
    space = build_space("default", find_shape(model.backbone))
    check_fit(MemoryPredictor(spec, space, measuring.reference("causal_lm"), (), tmp_path))
