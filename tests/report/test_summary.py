"""The verdict: what is claimed of a study, and on what ground."""

from dataclasses import replace
from pathlib import Path

import pytest
import synthetic
from scipy import stats

from autopeft import front
from autopeft.record import StudyRecord
from autopeft.report.rows import SEED_SPREAD
from autopeft.report.summary import study_axes, summarise
from autopeft.statistics import pooled_spread, proportion_interval
from autopeft.trial import Measurement, Origin, Trial, TrialState


def pick_sentences(record: StudyRecord) -> list[str]:
    """The verdict, then one sentence per pick with numbers, interval and train command; never empty."""
    verdict = summarise(record).verdict
    return [f"{verdict.headline}. {' '.join(verdict.text)}", *(f"{pick.title}: {pick.sentence} {pick.command}" for pick in verdict.picks)]


@pytest.fixture(scope="module")
def record() -> StudyRecord:
    return synthetic.record()


def only(record: StudyRecord, *numbers: int) -> StudyRecord:
    return replace(record, trials=tuple(t for t in record.trials if t.number in numbers))


def measured(trial: Trial, values: dict[str, list[float]]) -> Trial:
    """`trial` with the qualities given per seed and split, standard error .02 each."""
    last = trial.final()
    assert last is not None
    seeds = range(len(next(iter(values.values()))))
    observations = tuple(
        replace(last, seed=seed, measurements={name: Measurement(found[seed], "", 0.02) for name, found in values.items()})
        for seed in seeds
    )
    return replace(trial, state=TrialState.COMPLETE, observations=observations)


def test_front_and_picks_are_those_of_front(record: StudyRecord) -> None:
    summary = summarise(record)
    axes = study_axes(record)
    assert axes is not None
    assert {row.number for row in summary.front} == set(front.front_numbers(record.trials, record.spec))
    assert summary.chosen == front.picks(record.trials, record.spec, axes)
    assert {name: pick.row.number for pick in summary.picks for name in pick.names} == summary.chosen


def test_every_pick_has_a_sentence_with_numbers_and_a_command(record: StudyRecord) -> None:
    verdict, *sentences = pick_sentences(record)
    assert "Train trial" in verdict
    assert len(sentences) == len(summarise(record).picks)
    for sentence in sentences:
        assert "95 % interval" in sentence
        assert "mean of 3 seeds" in sentence
        assert "confirm split" in sentence
        assert "trainable parameters" in sentence
        assert "autopeft train studies/agreement-synthetic --pick" in sentence


def test_where_to_start_is_the_smallest_that_cannot_be_told_from_the_best(record: StudyRecord) -> None:
    picks = summarise(record).picks
    alike = [p for p in picks if p.against_best is None or not p.against_best.distinguishable]
    assert picks[0] in alike
    assert picks[0].row.parameters == min(p.row.parameters for p in alike)


def test_a_pick_is_judged_on_the_confirm_split_over_its_seeds(record: StudyRecord) -> None:
    pick = summarise(record).picks[0]
    values = [o.measurements["confirm.accuracy"].value for o in record.trial(pick.row.number).replicates()]
    assert pick.split == "confirm"
    assert pick.quality.seeds == len(values) == 3
    assert pick.quality.value == pytest.approx(sum(values) / 3)
    low, high = proportion_interval(sum(values) / 3, synthetic.CONFIRM_EXAMPLES)
    assert pick.quality.low < low
    assert pick.quality.high > high


def test_head_only_as_good_as_anything_is_said_plainly() -> None:
    flat = synthetic.record(gain=0.0)
    summary = summarise(flat)
    assert summary.verdict.head_is_enough
    assert summary.verdict.headline.startswith("Train the task head alone")
    assert "not distinguishable" in " ".join(summary.verdict.text)
    first = summary.picks[0]
    assert first.row.number == 0
    assert first.command.endswith("--pick head-only")
    assert "head-only" not in summary.chosen, "the contract of picks is best, knee, smallest-within-1se"


def test_head_only_that_is_itself_the_best_pick(record: StudyRecord) -> None:
    head, other = record.trials[0], record.trials[1]
    both = {"search.accuracy": [0.9, 0.9], "confirm.accuracy": [0.9, 0.9]}
    worse = {"search.accuracy": [0.6, 0.6], "confirm.accuracy": [0.6, 0.6]}
    summary = summarise(replace(record, trials=(measured(head, both), measured(other, worse))))
    assert summary.chosen["best"] == 0
    assert summary.verdict.head_is_enough
    assert "No adapter that was tried is better." in summary.verdict.text


def test_an_adapter_that_is_clearly_better_is_recommended(record: StudyRecord) -> None:
    head, other = record.trials[0], record.trials[1]
    high = {"search.accuracy": [0.9, 0.9], "confirm.accuracy": [0.9, 0.9]}
    low = {"search.accuracy": [0.6, 0.6], "confirm.accuracy": [0.6, 0.6]}
    summary = summarise(replace(record, trials=(measured(head, low), measured(other, high))))
    assert not summary.verdict.head_is_enough
    assert summary.picks[0].row.number == 1
    assert summary.verdict.headline.startswith("90.0 % accuracy by training 0.3")
    assert any("one of the known defaults" in text for text in summary.verdict.text)


def test_without_confirmation_the_search_split_is_named(record: StudyRecord) -> None:
    unconfirmed = tuple(measured(t, {"search.accuracy": [0.6 + 0.1 * i]}) for i, t in enumerate(record.trials[:2]))
    summary = summarise(replace(record, trials=unconfirmed))
    assert summary.picks[0].split == "search"
    assert "Not all of this is confirmed" in summary.verdict.text[-1]
    assert "on the search split" in summary.picks[0].sentence


def test_a_lower_loss_is_better(record: StudyRecord) -> None:
    """With a minimised metric every sign turns round."""
    data = record.spec.model_dump(mode="json", exclude={"objectives"})
    data["task"] = {**data["task"], "kind": "causal_lm", "metric": "token_nll"}
    spec = type(record.spec).model_validate(data)
    trials = (
        measured(record.trials[0], {"search.token_nll": [2.5, 2.5], "confirm.token_nll": [2.5, 2.5]}),
        measured(record.trials[1], {"search.token_nll": [1.5, 1.5], "confirm.token_nll": [1.5, 1.5]}),
    )
    axes = front.Axes((front.Axis("token_nll", 2.5, 0.0), *synthetic.axes().axes[1:]))
    summary = summarise(replace(record, spec=spec, trials=trials, environment={**record.environment, "axes": axes.to_json()}))
    assert summary.chosen["best"] == 1
    assert not summary.verdict.head_is_enough
    assert summary.picks[0].over_head is not None
    assert summary.picks[0].over_head.is_better
    assert summary.picks[0].over_head.estimate.value == pytest.approx(-1.0)
    assert any("Against the base model as it is: −1.000 nats" in text for text in summary.verdict.text)
    assert "against the base model as it is −1.000 nats" in summary.picks[0].sentence


def test_a_study_without_a_result_says_why(record: StudyRecord) -> None:
    broken = tuple(replace(t, state=TrialState.INFEASIBLE, observations=(), reason="out of memory") for t in record.trials[:3])
    assert pick_sentences(replace(record, trials=broken, environment={**record.environment, "axes": None})) == [
        "Nothing to pick from yet. None of 3 trials is complete (3 infeasible). Most frequent reason: out of memory."
    ]
    assert pick_sentences(synthetic.record(0)) == ["Nothing to pick from yet. No trial has started."]


def test_before_any_adapter_is_complete_nothing_is_claimed_of_adapters(record: StudyRecord) -> None:
    summary = summarise(only(record, 0))
    assert summary.verdict.headline == "No adapter has been measured yet"
    assert not summary.verdict.head_is_enough
    assert summary.verdict.text[0].startswith("So far: trial 0")


def test_one_seed_is_judged_with_the_spread_that_replicates_show(record: StudyRecord) -> None:
    groups = [[o.measurements["confirm.accuracy"].value for o in t.replicates()] for t in record.complete]
    spread = pooled_spread(groups)
    rows = summarise(record).rows
    assert {row.spread for row in rows} == {spread}
    alone = replace(record, trials=tuple(replace(t, observations=t.observations[:2]) for t in record.trials))
    assert {row.spread for row in summarise(alone).rows} == {SEED_SPREAD}


def test_commands_are_safe_to_paste(record: StudyRecord) -> None:
    hostile = replace(record, folder=Path("studies/a b; rm -rf $HOME"))
    assert all("'studies/a b; rm -rf $HOME'" in pick.command for pick in summarise(hostile).picks)


def test_trust_in_rungs_and_memory_is_that_of_scipy(record: StudyRecord) -> None:
    summary = summarise(record)
    rungs, ends, predicted, measured_bytes = [], [], [], []
    for trial in record.complete:
        rung, last = trial.observations[0], trial.final()
        assert last is not None
        rungs.append(rung.measurements["search.accuracy"].value)
        ends.append(last.measurements["search.accuracy"].value)
        predicted.append(trial.computed["peak_memory_bytes"])
        measured_bytes.append(last.measurements["measured_peak_memory_bytes"].value)
    (trust,) = summary.rungs
    assert (trust.share, trust.trials) == (0.5, len(rungs))
    assert trust.rank == pytest.approx(stats.spearmanr(rungs, ends).statistic)
    assert summary.memory.trials == len(predicted)
    assert summary.memory.rank == pytest.approx(stats.spearmanr(predicted, measured_bytes).statistic)


def test_early_stopped_trials_keep_the_quality_of_their_rung(record: StudyRecord) -> None:
    stopped = [row for row in summarise(record).rows if row.trial.state is TrialState.EARLY_STOPPED]
    assert stopped
    for row in stopped:
        assert row.values["accuracy"] is None
        assert row.seen_quality == row.trial.observations[0].measurements["search.accuracy"].value
        assert row.fidelity == 0.5


def test_baselines_are_compared_with_the_best_pick(record: StudyRecord) -> None:
    summary = summarise(record)
    assert [row.number for row, _ in summary.baselines] == [t.number for t in record.trials if t.origin is Origin.BASELINE]
    for row, comparison in summary.baselines:
        assert (comparison is None) == ("best" in row.picks)


def test_progress_is_what_each_prefix_of_the_study_gives(record: StudyRecord) -> None:
    axes = study_axes(record)
    assert axes is not None
    done = [t for t in record.trials if t.state.finished]
    points = summarise(record).progress
    assert len(points) == len(done)
    for count, point in enumerate(points, start=1):
        known = done[:count]
        assert point.hypervolume == pytest.approx(axes.hypervolume(front.objective_values(known, record.spec)[1]))
        assert point.within == front.quality_within(known, record.spec)
        assert point.seconds == pytest.approx(sum(t.seconds for t in known))
