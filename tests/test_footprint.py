"""Memory from a config alone: the same step as the study's prediction, and what fits a card."""

import json
from pathlib import Path

import measuring
import pytest
import tiny_base
from typer.testing import CliRunner

from autopeft.cli import app
from autopeft.errors import ModelError, SpecError
from autopeft.footprint import Footprints, Setting, configuration_of, largest, parse_adapter
from autopeft_searchspace.configuration import Configuration

SETTING = Setting(measuring.BATCH_SIZE, measuring.LONGEST, "cpu", "fp32")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config and nothing else."""
    folder = tiny_base.save_base(tmp_path_factory.mktemp("base"), "bert")
    for path in folder.iterdir():
        if path.name != "config.json":
            path.unlink()
    return folder


@pytest.fixture(scope="module")
def prints(base: Path) -> Footprints:
    return Footprints(str(base / "config.json"))


def test_without_weights_or_tokeniser_it_is_the_step_that_is_measured(prints: Footprints, tmp_path: Path) -> None:
    whole = tiny_base.save_base(tmp_path / "whole", "bert")
    configuration = measuring.lora(prints.shape)
    found = prints.trace(configuration, SETTING)
    assert found.peak == found.weights + found.gradients + found.optimizer + found.activations
    assert found.peak == pytest.approx(measuring.measured(whole, configuration), rel=0.02)  # two labels here, three there
    assert prints.trace(None, SETTING).optimizer > found.optimizer


def test_quantised_weights_take_less_where_the_base_model_is_frozen(prints: Footprints) -> None:
    configuration = measuring.lora(prints.shape)
    whole, eight, four = (prints.trace(configuration, Setting(2, 8, "cuda", "bf16", w)) for w in ("fp32", "int8", "nf4"))
    assert whole.weights > eight.weights > four.weights
    assert whole.peak > eight.peak > four.peak
    assert whole.optimizer == eight.optimizer == four.optimizer
    assert prints.trace(None, Setting(2, 8, weights="nf4")) == prints.trace(None, Setting(2, 8))


def test_weights_in_half_precision_take_half(prints: Footprints) -> None:
    configuration = Configuration((), 1e-3)
    full, half = (prints.trace(configuration, Setting(2, 8, "cuda", "bf16", weights)).weights for weights in ("fp32", "bf16"))
    assert 1.7 < full / half < 2.0  # the task head stays in float32


@pytest.mark.parametrize(("slope", "rest", "limit"), [(7, 100, 1000), (1, 0, 1), (3.3, 50, 51), (250, 10, 999_999), (0, 5, 10)])
def test_the_largest_number_within_a_limit(slope: float, rest: int, limit: int) -> None:
    asked = []

    def peak(n: int) -> int:
        asked.append(n)
        return int(rest + slope * n + (20 if n > 40 else 0))

    found, at = largest(peak, limit, 32, most=5000)
    fitting = [n for n in range(1, 5001) if rest + slope * n + (20 if n > 40 else 0) < limit + 1]
    assert found == (fitting[-1] if fitting else 0)
    assert at == peak(max(found, 1))
    assert len(asked) <= (12 if slope else 20)  # a step in a flat line tells nothing of where it is


def test_the_largest_batch_and_size_fit_and_the_next_do_not(prints: Footprints) -> None:
    component = parse_adapter("lora:4:q,v:0-1", prints.shape)
    configuration = Configuration((component,), 1e-3)
    limit = prints.trace(configuration, SETTING).peak + 10_000
    batch, peak = prints.largest_batch(configuration, SETTING, limit)
    assert batch >= SETTING.batch_size
    assert peak <= limit < prints.trace(configuration, Setting(batch + 1, SETTING.length, "cpu", "fp32")).peak
    size, peak = prints.largest_size(component, SETTING, limit)
    assert size >= 4
    assert peak <= limit


def test_adapters_are_read_and_errors_say_the_rule(prints: Footprints) -> None:
    component = parse_adapter("lora:8:q,v:0,2", prints.shape)
    assert (component.size, component.roles, component.layers) == (8, ("q", "v"), (0, 2))
    assert parse_adapter("lora:8", prints.shape).layers == (0, 1, 2)
    for text, said in (
        ("lora", "TYPE:SIZE"),
        ("lorra:8", "unknown adapter type 'lorra'; did you mean lora"),
        ("lora:8:w", "no module role 'w'"),
        ("lora:8:q:9", "from 0 to 2"),
        ("lora:0", "sizes start at 1"),
    ):
        with pytest.raises(SpecError, match=said):
            parse_adapter(text, prints.shape)
    with pytest.raises(SpecError, match="either"):
        configuration_of(["lora:8"], Path("x.json"), prints.shape)
    with pytest.raises(ModelError, match="length must be at most 40"):
        prints.trace(None, Setting(2, 41, "cpu", "fp32"))


def test_the_command_tells_parts_and_what_fits(base: Path) -> None:
    common = ["estimate", "--model", str(base / "config.json"), "--batch", "4", "--length", "8", "--device", "cpu", "--precision", "fp32"]
    done = CliRunner().invoke(app, [*common, "--json"])
    assert done.exit_code == 0, done.output
    names = [row["name"] for row in json.loads(done.stdout)["rows"]]
    assert names[0] == "head only"
    assert names[-1] == "full fine-tuning"
    done = CliRunner().invoke(app, [*common, "--adapter", "lora:4:q", "--card", "1MB"])
    assert "largest batch of this configuration within 1.00 MB" in done.stdout
