"""Pydantic's validation errors in words: the value, its line, the nearest valid key."""

import inspect
import typing

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from taskmix.catalog.yamlfile import Document, Location
from taskmix.errors import CatalogError, nearest
from taskmix.text import quoted, visible


def explain(document: Document, error: ValidationError, model: type[BaseModel], at: Location = ()) -> CatalogError:
    """Return one error that lists every fault found below a place of the document, each with its line."""
    details = sorted(_deepest(error.errors(include_url=False)), key=lambda d: document.line((*at, *_place(d))))
    first, *rest = [_fault(document, detail, model, at) for detail in details]
    return CatalogError(first.message, where=first.where, hint=first.hint, more=rest)


def _place(detail: ErrorDetails) -> Location:
    """Return where in the file an error is: its location without the names of union members."""
    return tuple(part for part in detail["loc"] if not _is_union_member(part))


def _is_union_member(part: str | int) -> bool:
    return isinstance(part, str) and (
        part in ("CutSpec", "str", "bool", "int", "[key]") or part.startswith(("list[", "dict["))
    )


def _deepest(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Keep one error a place: a union reports every member that failed, and the deepest error says most."""
    kept: dict[Location, ErrorDetails] = {}
    for detail in sorted(details, key=lambda d: -len(_place(d))):
        place = _place(detail)
        in_union = len(place) < len(detail["loc"])
        if not any(other[: len(place)] == place and (in_union or other == place) for other in kept):
            kept[place] = detail
    return list(kept.values())


def _fault(document: Document, detail: ErrorDetails, model: type[BaseModel], at: Location) -> CatalogError:
    place, value, kind, hint = _place(detail), detail["input"], detail["type"], ""
    name = ".".join(str(part) for part in place)
    message = detail["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        inside = f" in {name.rpartition('.')[0]}" if len(place) > 1 else ""
        message = f"unknown key {quoted(place[-1])}{inside}"
        hint = nearest(str(place[-1]), _keys(model, place[:-1]))
    elif kind == "missing":
        message = f"{name}: this key is required"
    elif kind == "literal_error":
        message = f"{name}: {quoted(value)} is not a valid value"
        expected = str(detail.get("ctx", {}).get("expected", "")).replace(" or ", ", ").split(", ")
        hint = nearest(str(value), [option.strip("'") for option in expected])
    elif kind == "string_pattern_mismatch":
        message = f"{name}: {quoted(value)} is not a valid name"
        hint = f"it must match {detail.get('ctx', {}).get('pattern', '')}"
    elif kind == "value_error":
        message = f"{name}: {message}" if name else message
    else:
        message = f"{name}: {message[:1].lower()}{message[1:]}, not {quoted(value)}"
    return CatalogError(visible(message), where=document.where((*at, *place)), hint=hint)


def _keys(model: type[BaseModel], place: Location) -> list[str]:
    """Return the keys that a model allows at a place below it."""
    reached: object = model
    for part in place:
        if isinstance(reached, type) and issubclass(reached, BaseModel) and part in reached.model_fields:
            reached = reached.model_fields[str(part)].annotation
        reached = _inner_model(reached) or reached
    if not (isinstance(reached, type) and issubclass(reached, BaseModel)):
        return []
    return [field.alias or name for name, field in reached.model_fields.items()]


def _inner_model(annotation: object) -> type[BaseModel] | None:
    """Return the first model inside an annotation such as ``dict[str, Model] | None``."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in typing.get_args(annotation) if (found := _inner_model(inner))), None)
