import pytest

from autopeft.budget import Budget, parse_bytes, parse_parameters
from autopeft.errors import SpecError


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("40trials", Budget(trials=40)),
        ("1trial", Budget(trials=1)),
        ("30m", Budget(seconds=1800)),
        ("90s", Budget(seconds=90)),
        ("1.5h", Budget(seconds=5400)),
        ("2d", Budget(seconds=172_800)),
        ("4gpu-h", Budget(gpu_hours=4)),
        (" 24trials , 8m,4gpu-h ", Budget(24, 480, 4)),
    ],
)
def test_budgets_as_people_write_them(text: str, budget: Budget) -> None:
    assert Budget.parse(text) == budget
    assert Budget.parse(str(budget)) == budget


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a budget is like 40trials.*it is ''"),
        ("soon", "it is 'soon'"),
        ("-3trials", "it is '-3trials'"),
        ("40", "unknown unit ''"),
        ("40trails", "unknown unit 'trails'; did you mean trials"),
        ("2hours", "'hours'"),
        ("0trials", "above 0, it is '0trials'"),
        ("2.5trials", "whole number"),
        ("10m,2h", "limits seconds twice"),
        ("nanm", "it is 'nanm'"),
        ("10m,", "it is '10m,'"),
    ],
)
def test_what_is_no_budget(text: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        Budget.parse(text)


def test_memory() -> None:
    assert parse_bytes("24GB") == 24 * 10**9
    assert parse_bytes("24 GiB") == 24 * 2**30
    assert parse_bytes("1.5gb") == parse_bytes("1.5G") == 1_500_000_000
    assert parse_bytes(1_000_000) == parse_bytes("1000000") == parse_bytes("1MB") == 10**6
    for bad in ("", "24XB", "much", "0GB", "-1GB", "1e9", True):
        with pytest.raises(SpecError, match="memory is a number of bytes"):
            parse_bytes(bad)


def test_parameters() -> None:
    assert parse_parameters("1%", 22_713_216) == 227_132
    assert parse_parameters("0.5 %", 1000) == 5
    assert parse_parameters("100k", 0) == parse_parameters(100_000, 0) == parse_parameters("100_000", 0) == 100_000
    assert parse_parameters("1.5M", 0) == 1_500_000
    assert parse_parameters("2B", 0) == 2 * 10**9
    for bad in ("101%", "1T", "few", "-1%", "", "1 percent"):
        with pytest.raises(SpecError, match="parameters are a number such as"):
            parse_parameters(bad, 1000)
