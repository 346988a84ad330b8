"""Metrics and their standard errors against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tiny_base
from sklearn.metrics import f1_score, matthews_corrcoef

from autopeft.data import Splits
from autopeft.errors import DataError
from autopeft.spec import DIRECTIONS, METRICS, TaskSpec
from autopeft.tasks import Encoded, Predictions, task_for
from autopeft.tasks.classification import confusion, macro_f1, matthews
from autopeft.tasks.metrics import bootstrapped, proportion, token_mean
from autopeft.tasks.regression import pearson, spearman
from autopeft.training import Diverged

LOGITS = np.array([[2.0, 1, 0], [0, 3, 1], [1, 0, 5], [9, 8, 7]])


def targets(*values):
    return [Encoded((1,), value) for value in values]


def test_accuracy_of_three_in_four():
    task = task_for(TaskSpec(kind="classification"), tiny_base.splits("classification"))
    measured = task.score("accuracy", Predictions(LOGITS), targets(0, 1, 2, 1))
    assert measured.value == 0.75
    assert measured.standard_error == pytest.approx(math.sqrt(0.75 * 0.25 / 4))
    assert list(task.per_example("accuracy", Predictions(LOGITS), targets(0, 1, 2, 1))) == [1, 1, 1, 0]
    assert task.per_example("macro_f1", Predictions(LOGITS), targets(0, 1, 2, 1)) is None


def test_macro_f1_by_hand():
    # label 0: precision 1/2, recall 1 -> 2/3; label 1: precision 1, recall 1/2 -> 2/3; label 2: 1
    table = confusion(np.array([0, 1, 2, 0]), np.array([0, 1, 2, 1]), 3)
    assert table.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert macro_f1(table) == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)


def test_matthews_by_hand():
    # true positives 2, true negatives 3, false positives 1, false negatives 1
    actual = np.array([1, 1, 1, 0, 0, 0, 0])
    predicted = np.array([1, 1, 0, 1, 0, 0, 0])
    assert matthews(confusion(predicted, actual, 2)) == pytest.approx((2 * 3 - 1 * 1) / math.sqrt(3 * 3 * 4 * 4))
    assert matthews(confusion(np.zeros(7, int), actual, 2)) == 0


@pytest.mark.parametrize("labels", [2, 5, 77])
def test_metrics_of_many_labels_agree_with_scikit_learn(labels):
    rng = np.random.default_rng(labels)
    actual = rng.integers(0, labels, 300)
    predicted = np.where(rng.random(300) < 0.5, actual, rng.integers(0, max(2, labels // 2), 300))
    table = confusion(predicted, actual, labels)
    assert macro_f1(table) == pytest.approx(f1_score(actual, predicted, average="macro"))
    assert matthews(table) == pytest.approx(matthews_corrcoef(actual, predicted))


def test_correlations_by_hand():
    # deviations (-1.5, -.5, .5, 1.5) and (-2, -1, 0, 3): 8 / sqrt(5 * 14) = .9561...
    assert pearson(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 3, 6])) == pytest.approx(8 / math.sqrt(5 * 14))
    assert spearman(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 3, 600])) == pytest.approx(1)
    # ranks (1, 2.5, 2.5, 4) and (1, 2, 3, 4): 4.5 / sqrt(4.5 * 5)
    assert spearman(np.array([1.0, 2, 2, 4]), np.array([1.0, 2, 3, 4])) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert pearson(np.ones(3), np.array([1.0, 2, 3])) == 0


def test_token_mean_by_hand():
    # 3 nats over 2 tokens and 3 nats over 4 tokens: 1 nat per token; residuals 1 and -1
    measured = token_mean(np.array([3.0, 3.0]), np.array([2.0, 4.0]))
    assert measured.value == 1
    assert measured.unit == "nats"
    assert measured.standard_error == pytest.approx(math.sqrt(2 / 1 * 2) / 6)
    assert token_mean(np.array([3.0]), np.array([2.0])).standard_error is None


def test_per_example_values_average_to_the_metric():
    task = task_for(TaskSpec(kind="causal_lm"), tiny_base.splits("causal_lm"))
    said = Predictions(np.array([3.0, 3.0, 8.0]), np.array([2.0, 4.0, 1.0]))
    values = task.per_example("token_nll", said, targets("a", "b", "c"))
    assert values.mean() == pytest.approx(task.score("token_nll", said, targets("a", "b", "c")).value) == pytest.approx(2)


def test_bootstrap_of_a_mean_is_near_its_standard_error_and_repeats():
    values = np.random.default_rng(1).normal(size=400)
    measured = bootstrapped(lambda predicted, actual: float(predicted.mean()), values, values)
    assert measured == bootstrapped(lambda predicted, actual: float(predicted.mean()), values, values)
    assert measured.standard_error == pytest.approx(values.std() / 20, rel=0.15)


def test_proportion_at_the_edge():
    assert proportion(np.ones(5)).standard_error == 0


@pytest.mark.parametrize(("kind", "metric"), [(kind, metric) for kind in METRICS for metric in METRICS[kind]])
def test_every_metric_of_the_spec_prefers_what_is_right(kind, metric):
    task = task_for(TaskSpec(kind=kind, metric=metric, answer_pattern="# (.+)"), tiny_base.splits(kind))
    answers = {"classification": (0, 1, 2, 0), "regression": (1.0, 2.0, 3.0, 5.0), "causal_lm": tuple(f"#### {i}" for i in range(4))}[kind]
    if kind == "classification":
        right, wrong = (Predictions(np.eye(3)[list(labels)]) for labels in (answers, (1, 2, 2, 0)))
    elif kind == "regression":
        right, wrong = Predictions(np.array(answers)), Predictions(np.array([2.0, 1.0, 3.0, 2.5]))
    elif metric == "token_nll":
        right, wrong = (Predictions(np.array(sums), np.full(4, 2.0)) for sums in ([0.1, 0.2, 0.1, 0.1], [4.0, 3.0, 4.0, 2.0]))
    else:
        right, wrong = (Predictions(np.array(said, dtype=object)) for said in (["0", "1", "2", "3"], ["0", "1", "", "7"]))
    better, worse = (task.score(metric, predictions, targets(*answers)) for predictions in (right, wrong))
    sign = 1 if DIRECTIONS[metric] == "maximize" else -1
    assert sign * better.value > sign * worse.value
    assert worse.standard_error > 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_outputs_that_are_no_numbers_are_divergence(bad):
    classes = task_for(TaskSpec(kind="classification"), tiny_base.splits("classification"))
    with pytest.raises(Diverged, match="1 of 3 outputs are not finite"):
        classes.score("accuracy", Predictions(np.array([[1.0, bad, 2.0]])), targets(0))
    numbers = task_for(TaskSpec(kind="regression"), tiny_base.splits("regression"))
    with pytest.raises(Diverged, match="1 of 2"):
        numbers.score("pearson", Predictions(np.array([1.0, bad])), targets(0.0, 1.0))
    words = task_for(TaskSpec(kind="causal_lm"), tiny_base.splits("causal_lm"))
    with pytest.raises(Diverged, match="1 of 2"):
        words.score("token_nll", Predictions(np.array([1.0, bad]), np.ones(2)), targets("a", "b"))


def test_equal_numbers_cannot_be_learnt():
    same = tuple({"text": "a", "label": 2.0} for _ in range(3))
    with pytest.raises(DataError, match="labels that differ; all in train are 2"):
        task_for(TaskSpec(kind="regression"), Splits(same, same, same, (), (), ""))
