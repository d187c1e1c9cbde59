"""
What the shell offers for an option's value when somebody presses TAB.

Nothing here asks the network, and nothing is imported for it: each TAB is a run of `pico`.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, get_args

from typer.models import ParameterInfo

# The sandbox's own: to ask it would import a web server. A test holds them to what it takes.
RATE_RULES = ("sliding-log", "aligned-window", "first-request-window", "token-bucket", "none")
DIALECTS = ("documented", "ruoyi")


def completing(command: Callable[..., None], **values: Sequence[str]) -> Callable[..., None]:
    """
    Have the shell offer *values* for the options of a command, which are named as its parameters are.

    What is no parameter of the command is passed over.
    """
    own = inspect.signature(command, eval_str=True).parameters.values()
    parameters = [_offering(it, values[it.name]) if it.name in values else it for it in own]

    @functools.wraps(command)
    def completed(**given: Any) -> None:
        command(**given)

    # typer reads a command's options from its signature, and inspect looks for it here.
    completed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    completed.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return completed


def _offering(parameter: inspect.Parameter, values: Sequence[str]) -> inspect.Parameter:
    def matching(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    kind, *told = get_args(parameter.annotation)
    options = [copy.copy(one) for one in told]
    for option in options:
        if isinstance(option, ParameterInfo):
            option.autocompletion = matching
    return parameter.replace(annotation=Annotated[(kind, *options)])
