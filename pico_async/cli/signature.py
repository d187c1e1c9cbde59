"""Change the signature of a command, from which typer reads its options."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, get_type_hints

Options = TypeVar("Options")


def parameters_of(command: Callable[..., object]) -> list[inspect.Parameter]:
    """Return the parameters of a function, with their annotations evaluated."""
    return list(inspect.signature(command, eval_str=True).parameters.values())


def set_parameters(command: Callable[..., None], parameters: Iterable[inspect.Parameter]) -> Callable[..., None]:
    """Replace the parameters that typer sees, and return the command."""
    signature = inspect.Signature([*parameters])
    command.__signature__ = signature  # type: ignore[attr-defined]  # inspect looks for it
    command.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    return command


def with_option_class(command: Callable[[Any, Options], None], options: type[Options]) -> Callable[..., None]:
    """Return the command with an option for each field of *options*, an attrs class that is its second argument."""
    types = get_type_hints(options, include_extras=True)
    fields = [field.replace(annotation=types[field.name]) for field in inspect.signature(options).parameters.values()]

    @functools.wraps(command)
    def with_fields(first: Any, **given: Any) -> None:
        command(first, options(**given))

    return set_parameters(with_fields, [parameters_of(command)[0], *fields])
