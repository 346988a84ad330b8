"""Checks that adapter types share. All raise ValueError with the rule, the value and near names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from autopeft_searchspace.configuration import Component, Value


def check_options(component: Component, choices: Mapping[str, Sequence[Value]], optional: Mapping[str, Value] | None = None) -> None:
    """Every option of `choices` is there with one of its values, and no other option is.

    optional: options that may be left out, with the value that this stands for; then they must be.
    """
    optional = optional or {}
    for name in component.options:
        if name not in choices:
            raise ValueError(f"{component.type} has no option {name!r}{_hint(name, list(choices))}")
    for name, values in choices.items():
        if name not in component.options:
            if name in optional:
                continue
            raise ValueError(f"{component.type} needs the option {name!r}, one of {list(values)}")
        value = component.options[name]
        if not any(value == own and isinstance(value, bool) == isinstance(own, bool) for own in values):
            raise ValueError(f"option {name} of {component.type} must be one of {list(values)}, it is {value!r}")
        if name in optional and value == optional[name]:
            raise ValueError(f"option {name} of {component.type} is {value!r} where it is left out; leave it out")


def check_roles(component: Component, allowed: Sequence[str]) -> None:
    """Roles are distinct, in the order of `allowed`, and all among them; there must be some if `allowed` has any."""
    for role in component.roles:
        if role not in allowed:
            raise ValueError(f"{component.type} cannot be put on role {role!r}{_hint(role, allowed)}")
    if component.roles != tuple(role for role in allowed if role in component.roles):
        order = ", ".join(allowed)
        raise ValueError(f"roles of {component.type} must be distinct and in the order {order}, they are {list(component.roles)}")
    if allowed and not component.roles:
        raise ValueError(f"{component.type} needs at least one role of {', '.join(allowed)}")


def _hint(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, n=3)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; there are {', '.join(names)}" if names else "; it has none"
