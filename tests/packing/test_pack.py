"""Trials that share every forward pass learn what they would have learnt alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_base
import torch

from autopeft.models.head import TaskModel
from autopeft.models.roles import find_shape
from autopeft.packing.pack import Pack
from autopeft.packing.views import NotPackable, view_of
from autopeft.tasks import Task
from autopeft.training import Diverged, Recipe, train
from autopeft_searchspace.build import adapt, changed_paths
from autopeft_searchspace.configuration import Component, Configuration
from autopeft_searchspace.shape import ModelShape

STEPS = 8
CPU = torch.device("cpu")


def recipe(kind: str, steps: int = STEPS) -> Recipe:
    return Recipe("", "", "", "", 16, 14, "cpu", "fp32", 3, steps, 0.25, 0.1, 1.0, False, 7 if kind == "causal_lm" else 0)


class Setting:
    """A tiny base model with its task and examples."""

    def __init__(self, folder: Path, architecture: str, kind: str, **settings: object) -> None:
        self.base = tiny_base.save_base(folder, architecture, "causal_lm" if kind == "causal_lm" else "none")
        self.kind, self.settings = kind, settings
        self.model, self.task, _ = tiny_base.load(self.base, kind, **settings)
        self.model.set_base_dropout(False)
        self.shape: ModelShape = find_shape(self.model.backbone)
        self.examples = self.task.encode(tiny_base.splits(kind).train, self.model.tokenizer, 16)

    def fresh(self) -> TaskModel:
        model, _, _ = tiny_base.load(self.base, self.kind, **self.settings)
        model.set_base_dropout(False)
        return model

    def build(self, model: TaskModel, configuration: Configuration, seed: int) -> TaskModel:
        torch.manual_seed(seed)
        model.reset_head(seed)
        model.backbone = adapt(model.backbone, configuration, self.shape, task_type=model.task_type, modules_to_save=model.modules_to_save)
        model.open_head()
        return model

    def batch(self, order: Sequence[int]) -> dict[str, torch.Tensor]:
        return self.task.collate([self.examples[i] for i in order], self.model.pad_id, "cpu")

    def alone(self, configuration: Configuration, seed: int, batches: Sequence[dict[str, torch.Tensor]]) -> tuple[list[float], TaskModel]:
        """A separate run of the plain training loop."""
        model = self.build(self.fresh(), configuration, seed)
        task: Task = self.task
        progress = train(
            model, lambda step: task.loss(model, batches[step]), recipe(self.kind), configuration.learning_rate, [STEPS], lambda p: True
        )
        return [loss for _, loss in progress.losses], model

    def packed(
        self,
        trials: Mapping[int, tuple[Configuration, int]],
        batches: Mapping[int, Sequence[dict[str, torch.Tensor]]],
        starts: Mapping[int, int] = {},
    ) -> tuple[dict[int, list[float]], dict[int, TaskModel]]:
        """All in one pack; `starts`: at which step of the pack a trial joins."""
        pack, losses, models = Pack(self.model, self.shape, self.task, CPU), {number: [] for number in trials}, {}
        for at in range(STEPS + max(starts.values(), default=0)):
            for number, (configuration, seed) in trials.items():
                if at == starts.get(number, 0):
                    own = view_of(self.model, changed_paths(configuration, self.shape))
                    models[number] = self.build(own, configuration, seed)
                    pack.join(number, own, recipe(self.kind), configuration)
            running = [n for n in models if len(losses[n]) < STEPS]
            for number, outcome in pack.step({n: batches[n][len(losses[n])] for n in running}).items():
                assert isinstance(outcome, float), outcome
                losses[number].append(outcome)
                if len(losses[number]) == STEPS:
                    pack.leave(number)
        return losses, models


def lora(size: int, layers: tuple[int, ...], roles: tuple[str, ...], **options: object) -> Component:
    return Component("lora", size, layers, roles, {"alpha": 2 * size, **options})


def bottleneck(kind: str, size: int, layers: tuple[int, ...], **options: object) -> Component:
    return Component(kind, size, layers, (), {"place": "feed_forward", "bias": True, **options})


def assert_same(model: TaskModel, other: TaskModel) -> None:
    theirs = dict(other.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, theirs[name], atol=1e-4, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


MIXED = [
    Configuration((lora(4, (0, 1, 2), ("q", "v")),), 1e-2),
    Configuration((lora(2, (1, 2), ("q", "o", "ff_in")), bottleneck("serial", 3, (2,))), 3e-3),
    Configuration((bottleneck("serial", 5, (0, 2)),), 1e-2),
    Configuration((bottleneck("serial", 4, (1,), activation="gelu", norm=True), bottleneck("parallel", 4, (2,), bias=False)), 5e-3),
    Configuration((Component("prefix", 3, (1, 2)),), 2e-2),
    Configuration((lora(3, (2,), ("v",), init="pissa"),), 1e-3),
    Configuration((), 1e-2),
    Configuration((Component("ia3", 1, (1, 2), ("k", "v", "ff_out")),), 2e-2),
]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return Setting(tmp_path_factory.mktemp("bert"), "bert", "classification")


def orders(setting: Setting, alike: bool, trials: int) -> dict[int, list[dict[str, torch.Tensor]]]:
    """Batches of each trial: the same for all, or each trial's own, of unlike sizes and lengths."""
    generator = torch.Generator().manual_seed(0)
    common = [setting.batch(torch.randperm(6, generator=generator)[:3].tolist()) for _ in range(STEPS)]
    own = {n: [setting.batch(torch.randperm(6, generator=generator)[: 1 + n % 4].tolist()) for _ in range(STEPS)] for n in range(trials)}
    return dict.fromkeys(range(trials), common) if alike else own


@pytest.mark.parametrize("alike", [True, False], ids=["common order", "own orders"])
def test_a_pack_of_unlike_trials_learns_what_each_would_alone(bert: Setting, alike: bool) -> None:
    assert_alone(bert, alike)


def test_attention_weights_of_unlike_lengths_are_no_obstacle(tmp_path: Path) -> None:
    """Attention that also gives its weights, of which a trial with a prefix has more columns."""
    assert_alone(Setting(tmp_path, "bert", "classification", attention="eager"), True)


def assert_alone(bert: Setting, alike: bool) -> None:
    trials = {n: (configuration, n) for n, configuration in enumerate(MIXED)}
    batches = orders(bert, alike, len(trials))
    losses, models = bert.packed(trials, batches)
    for number, (configuration, seed) in trials.items():
        right, model = bert.alone(configuration, seed, batches[number])
        assert losses[number] == pytest.approx(right, abs=1e-5), configuration.in_words()
        assert_same(models[number], model)


def test_what_nobody_adapts_runs_once_where_trials_see_the_same_batch(bert: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[tuple[int, int]] = []
    layer = type(bert.model.backbone.encoder.layer[0])
    forward = layer.forward

    def counted(self: torch.nn.Module, hidden: torch.Tensor, *args: object, **kwargs: object) -> object:
        rows.append((self.number, len(hidden)))
        return forward(self, hidden, *args, **kwargs)

    for i, block in enumerate(bert.model.backbone.encoder.layer):
        block.number = i
    chosen = [MIXED[1], Configuration((lora(2, (2,), ("q",)),), 1e-2), MIXED[4], MIXED[6]]
    trials = {n: (configuration, n) for n, configuration in enumerate(chosen)}
    batches = orders(bert, True, len(trials))
    right = {n: bert.alone(configuration, seed, batches[n]) for n, (configuration, seed) in trials.items()}
    monkeypatch.setattr(layer, "forward", counted)
    losses, models = bert.packed(trials, batches)
    assert {count for number, count in rows if number == 0} == {3}
    assert {count for number, count in rows if number == 1} == {12}
    for n in trials:
        assert losses[n] == pytest.approx(right[n][0], abs=1e-5)
        assert_same(models[n], right[n][1])


def test_a_slot_is_refilled_while_the_others_go_on(bert: Setting) -> None:
    chosen = [*MIXED[:4], MIXED[0], MIXED[4]]
    trials = {n: (configuration, n) for n, configuration in enumerate(chosen)}
    batches = orders(bert, True, len(trials))
    losses, models = bert.packed(trials, batches, starts={1: 4, 4: STEPS, 5: STEPS + 3})
    for n, (configuration, seed) in trials.items():
        right, model = bert.alone(configuration, seed, batches[n])
        assert losses[n] == pytest.approx(right, abs=1e-5)
        assert_same(models[n], model)


@pytest.mark.parametrize(
    ("architecture", "kind", "head"),
    [
        ("llama", "causal_lm", "auto"),
        ("gpt2", "causal_lm", "auto"),
        ("mpnet", "classification", "mean"),
        ("roberta", "classification", "own"),
        ("llama", "classification", "own"),
        ("distilbert", "regression", "mean"),
    ],
)
def test_other_models_and_tasks(tmp_path: Path, architecture: str, kind: str, head: str) -> None:
    setting = Setting(tmp_path, architecture, kind, model={"head": head})
    roles = setting.shape.roles
    chosen = [
        Configuration((lora(2, (1, 2), roles[:1]),), 1e-2),
        Configuration((lora(3, (2,), roles[-1:]), bottleneck("serial", 3, (1,))), 5e-3),
        Configuration((Component("prefix", 2, (1, 2)),), 2e-2),
    ]
    trials = {n: (configuration, n) for n, configuration in enumerate(chosen)}
    for alike in (True, False):
        batches = orders(setting, alike, len(trials))
        losses, models = setting.packed(trials, batches)
        for n, (configuration, seed) in trials.items():
            right, model = setting.alone(configuration, seed, batches[n])
            assert losses[n] == pytest.approx(right, abs=1e-5)
            assert_same(models[n], model)


def test_what_is_not_finite_in_one_trial_reaches_no_other(bert: Setting) -> None:
    batches = orders(bert, True, 3)[0]
    pack, models = Pack(bert.model, bert.shape, bert.task, CPU), {}
    for number, rate in ((0, 1e-2), (1, 1e30), (2, 1e-2)):
        models[number] = bert.build(view_of(bert.model), MIXED[0], 0)
        pack.join(number, models[number], recipe("classification"), replace(MIXED[0], learning_rate=rate))
    losses, ended = [], 0
    for step in range(STEPS):
        outcomes = pack.step(dict.fromkeys([0, 2] if ended else [0, 1, 2], batches[step]))
        losses.append(outcomes[0])
        if isinstance(outcomes.get(1), Diverged):
            ended = step
            pack.leave(1)
    assert ended
    right, model = bert.alone(MIXED[0], 0, batches)
    assert losses == pytest.approx(right, abs=1e-5)
    assert_same(models[0], model)
    assert_same(models[2], model)


def test_an_error_in_the_adapter_of_one_trial_is_its_own(bert: Setting) -> None:
    pack = Pack(bert.model, bert.shape, bert.task, CPU)
    for number in (0, 1):
        model = bert.build(view_of(bert.model), MIXED[3], 0)
        pack.join(number, model, recipe("classification"), MIXED[3])
    broken = model.backbone.base_model.model.encoder.layer[1].output.dense
    broken.composed_parts["default"]["serial"].bottleneck.down.weight.data = torch.ones(2, 2)
    batch = bert.batch([0, 1])
    outcomes = pack.step({0: batch, 1: batch})
    assert isinstance(outcomes[0], float)
    assert isinstance(outcomes[1], RuntimeError)


def test_the_base_model_is_untouched_and_a_trial_that_left_keeps_its_weights(bert: Setting) -> None:
    before = {name: tensor.clone() for name, tensor in bert.model.state_dict().items()}
    trials = {n: (configuration, n) for n, configuration in enumerate(MIXED)}
    bert.packed(trials, orders(bert, True, len(trials)))
    assert all(torch.equal(before[name], tensor) for name, tensor in bert.model.state_dict().items())


def test_a_trial_with_tokens_in_front_of_the_model_cannot_be_packed(bert: Setting) -> None:
    from peft import PromptTuningConfig, get_peft_model

    model = bert.fresh()
    model.backbone = get_peft_model(model.backbone, PromptTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=2))
    pack = Pack(bert.model, bert.shape, bert.task, CPU)
    with pytest.raises(NotPackable, match="in front"):
        pack.join(0, model, recipe("classification"), MIXED[0])
    assert len(pack) == 0


@pytest.mark.parametrize("architecture", ["bert", "llama", "gpt2"])
def test_prompts_of_unlike_length_and_depth_share_a_pass_with_other_types(architecture: str, tmp_path: Path) -> None:
    kind = "classification" if architecture == "bert" else "causal_lm"
    setting, role = Setting(tmp_path, architecture, kind), "qkv" if architecture == "gpt2" else "q"
    trials = {
        0: (Configuration((Component("prompt", 2, (1,)),), 1e-2), 0),
        1: (Configuration((Component("prompt", 4, (0, 2), (), {"source": "factored"}), lora(2, (1,), (role,))), 1e-2), 1),
        2: (Configuration((lora(4, (1, 2), (role,)),), 1e-2), 2),
        3: (Configuration((Component("prompt", 1, (2,)),), 1e-2), 3),
    }
    batches = orders(setting, False, len(trials))
    losses, models = setting.packed(trials, batches, starts={3: 2})
    for number, (configuration, seed) in trials.items():
        right, model = setting.alone(configuration, seed, batches[number])
        assert losses[number] == pytest.approx(right, abs=1e-5)
        assert_same(models[number], model)
