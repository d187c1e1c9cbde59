"""
Values in plain JSON types, as `to_dict()`, and as pydantic's types, so that FastAPI can return them and read them.

pydantic is no dependency: only the methods that pydantic itself calls import it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

import attrs
from cattrs import Converter
from cattrs.gen import make_dict_unstructure_fn, override

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

SECRET = "pico_async.secret"  # noqa: S105  no secret, but the mark of one
"""Key in the metadata of a field that `to_dict()` leaves out."""

Made = TypeVar("Made")


class Value:
    """Base class of the package's attrs values."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """
        Return the fields and properties in plain JSON types.

        A time is an ISO 8601 string, a Decimal is a string, an enum is its value, and bytes are Base64. The dict
        contains whole numbers and texts of messages if the value does, but never the API key or a token.
        """
        plain: dict[str, Any] = _converter().unstructure(self, unstructure_as=type(self))
        return plain

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]  # a property in the place of an attribute
        # FastAPI encodes what a handler returns without an annotation by vars().
        return self.to_dict()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema by which pydantic validates and serializes the value."""
        return schema_of(cls, source, handler, make=cls, is_made=cls)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the JSON schema, for OpenAPI."""
        return described(cls, schema, handler)


def schema_of(
    fields_of: type[Value],
    source: Any,
    handler: GetCoreSchemaHandler,
    *,
    make: Callable[..., Made],
    is_made: type[Made],
) -> CoreSchema:
    """
    Return pydantic's schema of a class that has the fields of an attrs class.

    Args:
        source: The class as it was annotated, perhaps with type arguments.
        make: Called with the validated fields.
        is_made: The class of values that are valid as they are.
    """
    from pydantic_core import core_schema

    arguments = get_args(source)
    computed = _properties(fields_of)

    def validated(given: Any, validate: Callable[[Any], dict[str, Any]]) -> Made:
        if isinstance(given, is_made):
            return given
        if isinstance(given, Mapping):
            given = {name: value for name, value in given.items() if name not in computed}
        return refusing(partial(make, **validate(given)))

    def field_of(attribute: attrs.Attribute[Any]) -> core_schema.TypedDictField:
        annotated = attribute.type
        if getattr(annotated, "__parameters__", ()) and arguments:
            annotated = annotated[arguments]  # type: ignore[index]  # tuple[Item, ...] of a generic class
        schema = handler.generate_schema(annotated)
        if attribute.converter or attribute.validator:
            # The constructor checks it again, but only here pydantic knows the field.
            check = partial(_checked_field, attribute)
            schema = core_schema.no_info_after_validator_function(check, schema)
        required = attribute.default is attrs.NOTHING
        if not required and not isinstance(attribute.default, attrs.Factory):  # type: ignore[arg-type]  # it is a class
            schema = core_schema.with_default_schema(schema, default=attribute.default)
        return core_schema.typed_dict_field(
            schema, required=required, serialization_exclude=SECRET in attribute.metadata
        )

    fields = {attribute.alias or attribute.name: field_of(attribute) for attribute in _fields(fields_of)}
    references = (f"{each.__module__}.{each.__qualname__}:{id(each)}" for each in arguments)
    return core_schema.no_info_wrap_validator_function(
        validated,
        core_schema.typed_dict_schema(
            fields,
            computed_fields=[
                core_schema.computed_field(name, handler.generate_schema(kind)) for name, kind in computed.items()
            ],
            extra_behavior="forbid",
        ),
        serialization=core_schema.plain_serializer_function_ser_schema(is_made.to_dict),  # type: ignore[attr-defined]
        ref=f"{is_made.__module__}.{is_made.__qualname__}:{id(is_made)}"
        + (f"[{','.join(references)}]" if arguments else ""),
    )


def described(cls: type, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
    """Return the JSON schema with its title and description. What comes out has every field."""
    shown = handler(schema)
    details = handler.resolve_ref_schema(shown)
    details.setdefault("title", cls.__name__)
    details.setdefault("description", (cls.__doc__ or "").strip().partition("\n\n")[0])
    if handler.mode == "serialization":
        details["required"] = list(details["properties"])
    return shown


def _fields(kind: type[Any]) -> list[attrs.Attribute[Any]]:
    return [attribute for attribute in attrs.fields(attrs.resolve_types(kind)) if attribute.init]


def _properties(kind: type[Any]) -> dict[str, Any]:
    """Return the public properties of a class, and their types."""
    members = {name: member for base in reversed(kind.__mro__) for name, member in vars(base).items()}
    return {
        name: get_type_hints(member.fget)["return"]
        for name, member in members.items()
        if isinstance(member, property) and not name.startswith("_")
    }


def _checked_field(attribute: attrs.Attribute[Any], value: object) -> object:
    def checked() -> object:
        convert: Any = attribute.converter
        converted = convert(value) if convert else value
        if attribute.validator:
            attribute.validator(None, attribute, converted)
        return converted

    return refusing(checked)


def refusing(make: Callable[[], Made]) -> Made:
    """Call a function, and raise its ValueError as pydantic's error, without the value."""
    from pydantic_core import PydanticCustomError

    try:
        return make()
    except ValueError as error:
        kind, message = getattr(error, "reason", None) or "value_error", str(error)
    raise PydanticCustomError(kind, message)


@cache
def _converter() -> Converter:
    converter = Converter(unstruct_collection_overrides={tuple: list})

    def unstructured(kind: type[Any]) -> Callable[[Any], dict[str, Any]]:
        overrides: dict[str, Any] = {
            attribute.name: override(rename=attribute.alias, omit=True if SECRET in attribute.metadata else None)
            for attribute in _fields(kind)
        }
        fields = make_dict_unstructure_fn(kind, converter, **overrides)
        names = tuple(_properties(kind))

        def unstructure(value: Any) -> dict[str, Any]:
            return fields(value) | {name: converter.unstructure(getattr(value, name)) for name in names}

        return unstructure

    # An error has a `to_dict()`, too, and is no attrs class.
    converter.register_unstructure_hook_func(lambda kind: hasattr(kind, "to_dict"), lambda error: error.to_dict())
    converter.register_unstructure_hook_factory(
        lambda kind: isinstance(kind, type) and issubclass(kind, Value), unstructured
    )
    # Otherwise its members are left as they are, because they are str.
    converter.register_unstructure_hook(StrEnum, lambda member: member.value)
    converter.register_unstructure_hook(datetime, datetime.isoformat)
    converter.register_unstructure_hook(Decimal, str)
    converter.register_unstructure_hook(bytes, lambda content: base64.b64encode(content).decode())
    converter.register_unstructure_hook(tuple, lambda items: [converter.unstructure(item) for item in items])
    return converter
