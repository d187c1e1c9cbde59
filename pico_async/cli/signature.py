"""Change the signature of a command, from which typer reads its options."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_origin, get_type_hints


def with_option_class(command: Callable[..., None], options: type[Any]) -> Callable[..., None]:
    """
    Return the command with an option for each annotated field of *options*, an attrs class.

    The command has one parameter of that class. The options follow its other parameters.
    """
    types = get_type_hints(options, include_extras=True)
    fields = [
        field.replace(annotation=types[name])
        for name, field in inspect.signature(options).parameters.items()
        if get_origin(types[name]) is Annotated
    ]
    own = inspect.signature(command, eval_str=True).parameters.values()

    @functools.wraps(command)
    def with_fields(*before: Any, **given: Any) -> None:
        values = options(**{field.name: given.pop(field.name) for field in fields})
        command(*before, values, **given)

    signature = inspect.Signature([*(parameter for parameter in own if parameter.annotation is not options), *fields])
    with_fields.__signature__ = signature  # type: ignore[attr-defined]  # inspect looks for it
    with_fields.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    return with_fields
