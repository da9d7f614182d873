"""Settings as JSON: frozen dataclasses of plain values, there and back without pickle."""

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Settings = TypeVar("Settings")


def from_json(kind: type[Settings], content: Mapping[str, Any]) -> Settings:
    """The dataclass that `dataclasses.asdict` and JSON turned into `content`.

    Raises:
        ValueError: A value that its field cannot hold, or an unknown field.
    """
    hints = get_type_hints(kind)
    known = {field.name for field in fields(kind)}  # pyright: ignore[reportArgumentType]
    unknown = sorted(set(content) - known)
    if unknown:
        raise ValueError(f"{kind.__name__} has no field {', '.join(unknown)}")
    return kind(**{name: _value(hints[name], value) for name, value in content.items()})


def differences(old: object, new: object, name: str = "") -> list[str]:
    """What differs between two JSON values, one text a leaf: ``clean.max_text_bytes 9 -> 10``."""
    if isinstance(old, dict) and isinstance(new, dict):
        found: list[str] = []
        for key in sorted(set(old) | set(new)):
            inner = f"{name}.{key}" if name else str(key)
            found += differences(old.get(key), new.get(key), inner)
        return found
    return [] if old == new else [f"{name} {old!r} -> {new!r}"]


def _value(hint: Any, value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        (inner,) = [argument for argument in arguments if argument is not type(None)]
        return _value(inner, value)
    if isinstance(hint, type) and is_dataclass(hint):
        return from_json(hint, value)
    if origin is tuple:
        return tuple(_value(arguments[0], item) for item in value)
    if origin is dict:
        return {key: _value(arguments[1], item) for key, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if origin is Literal and value not in arguments:
        raise ValueError(f"{value!r} is none of {', '.join(map(repr, arguments))}")
    return value
