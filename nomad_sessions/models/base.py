"""What all models share: spelling, leniency, and the way back to plain data.

Two invariants, checked by tests/unit/test_models.py. Whatever JSON can hold passes through validation and `dump()`
unchanged: unknown keys, explicit nulls, lone surrogates, nesting of 1,000; with one exception, that an unknown key of
a record itself, lone surrogates in its name, is refused. And only what was set is dumped, so that reading a foreign
record and writing it back adds nothing to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Strict, ValidationError
from pydantic_core import core_schema

from ..errors import InvalidInputError, ProtectedFieldError

# Strict, because lax mode decodes bytes. An exact `str` is never looked into, so that lone surrogates pass.
Text = Annotated[str, Strict()]

M = TypeVar("M", bound="Model")


def to_camel(name: str) -> str:
    """`session_id` as the file spells it: `sessionId`."""
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


class Model(BaseModel):
    """Base of what is stored: snake_case in Python, camelCase in JSON, either accepted, unknown fields kept."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="allow",
        protected_namespaces=(),  # pydantic before 2.10 warns of `model_id`
        # The default writes null for NaN and says nothing.
        ser_json_inf_nan="constants",
        # Building a validator costs 0.5 ms, and a nested model's is part of its owner's: only Session and Message,
        # which the first read needs, build theirs on import.
        defer_build=True,
    )


class NullAs:
    """`Annotated[T, NullAs(make)]`: a JSON null, which foreign files hold where a value is due, reads as `make()`.

    The check of a value that is there stays in Rust, by `schema` or what T says; Python is called for null only.
    """

    def __init__(self, make: Callable[[], Any], schema: core_schema.CoreSchema | None = None) -> None:
        self.make = make
        self.schema = schema

    def __get_pydantic_core_schema__(
        self, source: Any, handler: Callable[[Any], core_schema.CoreSchema]
    ) -> core_schema.CoreSchema:
        make, inner = self.make, self.schema or handler(source)
        null = core_schema.chain_schema(
            [core_schema.none_schema(), core_schema.no_info_plain_validator_function(lambda _: make())]
        )
        either = core_schema.union_schema([inner, null], mode="left_to_right")
        # Never run as such in strict mode: it is the strict branch that says how to serialise, without a union's cost.
        return core_schema.lax_or_strict_schema(lax_schema=either, strict_schema=inner)


def no_list() -> list[Any]:
    """A default_factory: pydantic reads a factory's signature, which for the built-in `list` costs 4 ms on import."""
    return []


def no_dict() -> dict[str, Any]:
    """The same for a mapping."""
    return {}


NullableText = Annotated[Text, NullAs(str)]
Millis = Annotated[int, NullAs(int)]
# A dict's own serialiser silently turns a lone surrogate in a key into U+FFFD; that of "any" raises.
_FREE = core_schema.dict_schema(core_schema.str_schema(strict=True), serialization=core_schema.simple_ser_schema("any"))
FreeForm = Annotated[dict[str, Any], NullAs(dict, _FREE)]


def validate(cls: type[M], data: Mapping[str, Any]) -> M:
    """`data`, in either spelling, as a `cls`. Raises InvalidInputError naming the first field that does not fit.

    Values are taken over, not copied: what is nested in free-form fields stays shared with `data`.
    """
    try:
        model: M = cls.__pydantic_validator__.validate_python(data if type(data) is dict else dict(data))
    except ValidationError as error:
        raise _as_invalid_input(error) from error
    return model


def _as_invalid_input(error: ValidationError) -> InvalidInputError:
    first = error.errors(include_url=False, include_context=False)[0]
    # Names of union branches are among the places; what they are beyond the field's own name is of no use to a caller.
    field = str(first["loc"][0]) if first["loc"] else "data"
    return InvalidInputError(field=field, value=first["input"], reason=first["msg"])


def with_changes(model: M, changes: Mapping[str, Any]) -> M:
    """A copy of `model` with `changes` (either spelling; null is a value) laid over its fields; `model` stays as it is.

    Only the changes are validated: costs a few microseconds plus their size. Raises InvalidInputError.
    """
    cls = type(model)
    partial = validate(cls, changes)
    values, unknown = partial.__dict__, partial.__pydantic_extra__ or {}
    copy = model.model_copy()
    copy.__dict__.update((name, values[name]) for name in partial.__pydantic_fields_set__ if name in values)
    if unknown:
        copy.__pydantic_extra__ = {**(copy.__pydantic_extra__ or {}), **unknown}
    copy.__pydantic_fields_set__.update(partial.__pydantic_fields_set__)
    return copy


def refuse_protected(changes: Mapping[str, Any], protected: frozenset[str]) -> None:
    """Raise ProtectedFieldError when normalised `changes` name one of the `protected` fields."""
    for field in changes:
        if field in protected:
            raise ProtectedFieldError(field=field, value=changes[field])


def dump(model: Model) -> dict[str, Any]:
    """`model` as JSON holds it: camelCase, the fields that are set in the models' order, then unknown ones, nulls kept.

    Free-form values (`metadata`, unknown fields, …) are not looked into: they are shared with the model, not copied.
    """
    values, present = model.__dict__, model.__pydantic_fields_set__
    result = {alias: _plain(values[name]) for name, alias in names_of(type(model)) if name in present}
    if model.__pydantic_extra__:
        result.update(model.__pydantic_extra__)
    return result


def _plain(value: Any) -> Any:
    if isinstance(value, Model):
        return dump(value)
    if type(value) is list:
        # Lists of models only: others may be free-form, and are not ours to copy item by item.
        return [dump(item) for item in value] if value and isinstance(value[0], Model) else value
    return value


_NAMES: dict[type[Model], tuple[tuple[str, str], ...]] = {}


def names_of(cls: type[Model]) -> tuple[tuple[str, str], ...]:
    """The declared fields of `cls` in order, each as Python and as the file spells it."""
    names = _NAMES.get(cls)
    if names is None:
        # A model that is not built yet has no aliases from the generator, so that it is asked here.
        fields = cls.model_fields.items()
        names = _NAMES[cls] = tuple((name, field.serialization_alias or to_camel(name)) for name, field in fields)
    return names


def fast_json(model: Model) -> bytes | None:
    """The JSON of `dump(model)` in UTF-8, made in Rust; None where only the codec can decide or do it.

    That is for lone surrogates, nesting beyond 200, NaN and infinities, and what is no JSON value. About 2 us for 1 KB.
    """
    try:
        encoded = model.__pydantic_serializer__.to_json(model, by_alias=True, exclude_unset=True, warnings=False)
    except ValueError:  # PydanticSerializationError, raised for the others
        return None
    # A text that has the word goes the long way too, and comes out the same.
    return None if b"NaN" in encoded or b"Infinity" in encoded else encoded
