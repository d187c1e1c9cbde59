"""
The values that the shell offers for an option when a user presses TAB.

Each TAB is a run of `pico`, so nothing here makes a request, and nothing is imported for it.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, get_args

from typer.models import ParameterInfo

from pico_async.cli.signature import parameters_of, set_parameters

# Copies of the sandbox's own values, because its import would load a web server. A test compares them.
RATE_RULES = ("sliding-log", "aligned-window", "first-request-window", "token-bucket", "none")
DIALECTS = ("documented", "ruoyi")


def completing(command: Callable[..., None], **values: Sequence[str]) -> Callable[..., None]:
    """Return the command with values for the shell to offer, by the names of its parameters."""

    @functools.wraps(command)
    def completed(**given: Any) -> None:
        command(**given)

    own = parameters_of(command)
    return set_parameters(completed, [_offering(it, values[it.name]) if it.name in values else it for it in own])


def _offering(parameter: inspect.Parameter, values: Sequence[str]) -> inspect.Parameter:
    def matching(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    kind, *metadata = get_args(parameter.annotation)
    options = [copy.copy(item) for item in metadata]
    for option in options:
        if isinstance(option, ParameterInfo):
            option.autocompletion = matching
    return parameter.replace(annotation=Annotated[(kind, *options)])
