"""The rule of early stopping, case by case."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_up import STEPS, head_only, spec, trial

from autopeft.promotion import CONTROLS, Decision, decide, front_probability, places, rank_correlation, thaw
from autopeft.promotion import Standing as At
from autopeft.surrogate.rungs import RungModel
from autopeft.trial import Measurement, Observation, Origin, Trial, TrialState

SPEC = spec()


def at_rung(number: int, quality: float, parameters: float = 5000, **settings: object) -> tuple[Trial, Observation]:
    """A running trial, and what it shows at a third of its steps."""
    running = trial(number, None, parameters, state=TrialState.RUNNING, **settings)  # type: ignore[arg-type]
    return running, Observation(
        running.configuration.key, 0, STEPS // 3, STEPS, "made up", {"search.accuracy": Measurement(quality, "", 0.01)}
    )


def ranked(count: int = 16, noise: float = 0.0) -> list[Trial]:
    """Head-only, and trials of all sizes whose end is the rung + .2, more or less."""
    rng = np.random.default_rng(0)
    trials = [head_only(0.5, rung=0.3)]
    for i in range(count):
        rung = 0.4 + 0.02 * i
        trials.append(trial(i + 1, rung + 0.2 + noise * rng.standard_normal(), 10 ** (2 + (7 * i % count) / 4), rung=rung))
    return trials


def judged(quality: float, trials: list[Trial], parameters: float = 5000, numbers: range = range(100, 140)) -> list[Decision]:
    return [decide(*at_rung(n, quality, parameters), trials, SPEC) for n in numbers]


def test_baselines_are_never_stopped() -> None:
    decision = decide(*at_rung(50, 0.0, origin=Origin.BASELINE), ranked(), SPEC)
    assert decision == Decision(True, "baselines are never stopped")


def test_nobody_is_stopped_before_head_only_is_beaten_by_two_standard_errors() -> None:
    error = 0.01
    close = [head_only(0.5, rung=0.4), *(trial(i, 0.5 + 2 * error * 2**0.5 - 0.001, 1e3 * i, rung=0.4 + 0.01 * i) for i in range(1, 9))]
    assert all(d.go_on and "head-only" in d.reason for d in judged(0.1, close))
    beaten = [*close, trial(9, 0.5 + 2 * error * 2**0.5 + 0.001, 9e3, rung=0.5)]
    assert "head-only" not in judged(0.1, beaten)[0].reason


def test_waits_for_head_only_unless_the_study_has_no_baselines() -> None:
    without = ranked()[1:]
    assert "head-only" in decide(*at_rung(50, 0.0), without, SPEC).reason
    alone = spec(baselines=False)
    assert "head-only" not in decide(*at_rung(50, 0.0), without, alone).reason


def test_few_pairs_are_no_ground_to_stop_on() -> None:
    trials = [head_only(0.5), trial(1, 0.9, 100, rung=0.8), trial(2, 0.8, 100, rung=0.7)]
    assert "2 trials have reached the end" in decide(*at_rung(50, 0.0), trials, SPEC).reason


def test_the_best_of_its_band_goes_on_and_the_worst_is_stopped() -> None:
    best = decide(*at_rung(50, 0.9), ranked(), SPEC)
    assert best.go_on
    assert best.reason.startswith("place 1 of")
    assert best.correlation == pytest.approx(1)
    worst = [d for d in judged(0.1, ranked()) if not d.control]
    assert worst
    assert not any(d.go_on for d in worst)


def test_a_fifth_of_the_stopped_run_on_and_say_so() -> None:
    decisions = judged(0.1, ranked(), numbers=range(100, 220))
    controls = [d for d in decisions if d.control]
    assert len(controls) / len(decisions) == pytest.approx(CONTROLS, abs=0.1)  # two and a half standard errors
    assert all(d.go_on and d.reason.startswith("would have been stopped, runs on as a control") for d in controls)
    assert decisions[:10] == judged(0.1, ranked(), numbers=range(100, 110))


def test_small_trials_are_judged_among_small_ones() -> None:
    # .45 at the rung is poor for the study, but the best there is below 200 parameters
    trials = [*ranked(), *(trial(30 + i, 0.62, 100 + i, rung=0.41) for i in range(6))]
    assert decide(*at_rung(50, 0.45, parameters=90), trials, SPEC).go_on
    assert not all(d.go_on for d in judged(0.45, trials, parameters=900_000))


def test_a_rung_that_foretells_nothing_is_closed() -> None:
    decisions = judged(0.1, ranked(noise=1.0), numbers=range(100, 110))
    assert all(d.go_on and "closed" in d.reason for d in decisions)
    assert decisions[0].correlation is not None


def test_places_widen_as_the_correlation_falls() -> None:
    assert places(0.999, 1000) == pytest.approx(1 / 3)
    assert places(0.3, 1000) == places(-0.5, 30) == 1
    assert 1 / 3 < places(0.8, 100) < places(0.6, 100) < 1
    assert places(0.8, 8) > places(0.8, 100)  # a correlation of few trials is trusted less


def test_rank_correlation_by_hand() -> None:
    # ranks 1 2 3 4 against 1 3 2 4: 1 - 6 * 2 / (4 * 15)
    assert rank_correlation([1, 2, 3, 4], [10, 30, 20, 40]) == pytest.approx(0.8)
    assert rank_correlation([1, 1, 1], [1, 2, 3]) == 0


def test_front_probability_by_hand() -> None:
    rivals = [head_only(0.5), trial(1, 0.7, 1000), trial(2, 0.9, 9000)]
    running = trial(9, None, 1000, state=TrialState.RUNNING)
    standing = At(running, Measurement(0.6, "", 0.03), 0.6, None)
    # .6 + .1 meets .7 at the same size: even odds; one standard error more: Phi(1)
    assert front_probability(standing, rivals, RungModel(0.1, 0.04), SPEC) == pytest.approx(0.5)
    assert front_probability(standing, rivals, RungModel(0.15, 0.04), SPEC) == pytest.approx(0.841345, abs=1e-6)
    assert front_probability(standing, [], RungModel(0.1, 0.04), SPEC) == 1


def test_minimised_metrics_are_judged_the_right_way_round() -> None:
    objectives = [{"name": "token_nll", "direction": "minimize"}, {"name": "trainable_parameters", "direction": "minimize"}]
    nll = spec(task={"kind": "causal_lm"}, objectives=objectives)
    trials = [head_only(4.0, rung=4.2, metric="token_nll")]
    trials += [trial(i, 3.0 - 0.1 * i, 1000, rung=3.5 - 0.1 * i, metric="token_nll") for i in range(1, 13)]

    def decision(value: float, number: int) -> Decision:
        running, seen = at_rung(number, 0.0, 1000)
        return decide(running, replace(seen, measurements={"search.token_nll": Measurement(value, "", 0.01)}), trials, nll)

    assert decision(1.0, 100).go_on
    assert not all(decision(4.0, number).go_on for number in range(100, 130))


def test_whoever_is_likely_on_the_front_goes_on_whatever_its_place() -> None:
    # last of its band, and all others are surer of the front; but head-only, .01 worse, is all that is as small
    trials = [head_only(0.5, rung=0.3), *(trial(i, 0.6 + 0.03 * i, 100 + i, rung=0.4 + 0.03 * i) for i in range(1, 13))]
    decision = decide(*at_rung(50, 0.31, parameters=50), trials, SPEC)
    assert decision.go_on
    assert decision.reason.startswith("on the front with a probability of")


def test_a_stopped_trial_is_thawed_once_it_is_likely_on_the_front() -> None:
    # ends are .2 above rungs, give or take .01; rungs have an error of .01 too
    pairs = [head_only(0.5, rung=0.3), *(trial(i, 0.6 + (-1) ** i * 0.01, 1000, rung=0.4) for i in range(1, 7))]
    good, fair = (trial(n, None, 1000, rung=rung, state=TrialState.EARLY_STOPPED) for n, rung in ((20, 0.60), (21, 0.595)))
    thawed = thaw([*pairs, fair, good, trial(30, 0.78, 900)], SPEC)  # they are likely above .78: at .795 and, likelier, at .8
    assert thawed is not None
    assert thawed.number == 20
    assert thaw([*pairs, fair, good, trial(30, 0.81, 900)], SPEC) is None  # less likely than not
    assert thaw([*pairs[:4], good], SPEC) is None  # four pairs are no ground to judge on
