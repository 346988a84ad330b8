"""Numbers as people read them."""

import pytest

from autopeft.report import words
from autopeft.statistics import Estimate


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (640, "640"), (999.6, "1.00 k"), (24_576, "24.6 k"), (663_552, "664 k"), (1_180_000, "1.18 M"), (7e9, "7.00 B")],
)
def test_counts_keep_three_digits(number: float, text: str) -> None:
    assert words.count(number) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0.31, "0.31 s"), (14.2, "14 s"), (60, "1 min"), (200, "3 min 20 s"), (3600, "1 h"), (7500, "2 h 5 min")]
)
def test_seconds_read_as_minutes_and_hours(number: float, text: str) -> None:
    assert words.seconds(number) == text


def test_values_have_the_unit_of_their_objective() -> None:
    assert words.value("accuracy", 0.9123) == "91.2 %"
    assert words.value("matthews", -0.1234) == "−0.123"
    assert words.value("token_nll", 2.3144) == "2.314"
    assert words.value("peak_memory_bytes", 328e6) == "328 MB"
    assert words.value("accuracy", None) == words.value("accuracy", float("nan")) == "–"


def test_a_difference_says_its_unit_and_interval() -> None:
    assert words.difference("accuracy", Estimate(0.012, -0.004, 0.028)) == "+1.2 points (−0.4 to +2.8)"
    assert words.difference("token_nll", Estimate(-0.1, -0.2, 0.0), ends=False) == "−0.100 nats"
    assert words.signed("accuracy", -0.0001) == "0.0"


def test_an_interval_is_missing_where_nothing_is_known_of_the_error() -> None:
    assert words.interval("accuracy", Estimate(0.9, 0.9, 0.9)) == "–"
    assert words.interval("accuracy", Estimate(0.9, 0.876, 0.934)) == "87.6–93.4 %"


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 %"), (0.0000001, "<0.001 %"), (0.0032, "0.32 %"), (0.029, "2.9 %"), (0.5, "50 %"), (1, "100 %")]
)
def test_shares(number: float, text: str) -> None:
    assert words.share(number) == text


def test_lists_in_words() -> None:
    assert [words.joined(parts) for parts in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
