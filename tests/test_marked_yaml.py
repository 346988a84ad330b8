from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopeft import marked_yaml
from autopeft.errors import SpecError


def test_places_of_keys_and_items() -> None:
    data, places = marked_yaml.read("a: 1\nb:\n  c: [x,\n    y]\n  d: {e: 2}\n", "f.yaml")
    assert data == {"a": 1, "b": {"c": ["x", "y"], "d": {"e": 2}}}
    assert places["a",] == "f.yaml:1"
    assert places["b", "c"] == "f.yaml:3"
    assert places["b", "c", 1] == "f.yaml:4"
    assert places["b", "d", "e"] == "f.yaml:5"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3: key 'a' stands twice, first in line 1"),
        ("a: 1\nb: [1, 2\nc: 3\n", "f.yaml:3: "),
        ("a: &x [1]\nb: *x\n", "f.yaml:2: aliases"),
        ("a:\n  <<: {b: 1}\n", "f.yaml:2: keys must be text"),
        ("1: 2\n", "f.yaml:1: keys must be text, this one is 1"),
        ("[1, 2]: 3\n", "f.yaml:1: keys must be text"),
        ("- 1\n", "f.yaml:1: must hold `key: value` pairs, it is list"),
        ("just words", "f.yaml:1: must hold .* it is str"),
        ("a: !!python/object/apply:os.system [echo]\n", "f.yaml:1: could not determine a constructor"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2: "),
        ("a: 2001-99-99\n", "f.yaml: cannot be read as YAML"),
        ("a: \x00", "f.yaml: cannot be read as YAML"),
        ("a: " + "[" * 5000, "f.yaml: cannot be read as YAML|f.yaml:1: "),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        marked_yaml.read(text, "f.yaml")


def test_an_empty_file_is_an_empty_mapping() -> None:
    assert marked_yaml.read("# nothing\n", "f") == ({}, {})


def test_exponents_are_numbers_as_in_json() -> None:
    assert marked_yaml.read_value("1e-4") == 1e-4
    assert marked_yaml.read_value("[5E3, -2.5e+1, .5e1]") == [5000.0, -25.0, 5.0]
    assert marked_yaml.read_value("1e") == "1e"
    with pytest.raises(SpecError, match="is not YAML"):
        marked_yaml.read_value("[1, 2")


words = st.text("ab1e.5-+ :#'\"[]{},&*!|>%@`~\n\té\u2028", max_size=12)
plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words
documents = st.dictionaries(
    st.text("abcXYZ_.-01é", min_size=1, max_size=6),
    st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=8),
    max_size=4,
)


@given(documents)
def test_what_is_written_is_read_back(document: dict[str, Any]) -> None:
    assert marked_yaml.read(marked_yaml.write(document), "f")[0] == document


@given(st.one_of(st.booleans(), st.integers(), words, st.sampled_from(["1e5", "no", "null", "a: b", "# c", "- d", "e, f]"])))
def test_a_written_value_is_read_back(value: Any) -> None:
    line = marked_yaml.write_value(value)
    assert marked_yaml.read(f"v: {line}  # note\n", "f")[0] == {"v": value}
