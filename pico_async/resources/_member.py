"""Make each resource a documented, typed member of the session."""

from __future__ import annotations

from typing import Any, Generic, TypeVar, cast, overload

R = TypeVar("R")


class Resource(Generic[R]):
    """
    A resource of the session, such as `pico.sms`, made by its first use.

    The class attribute is the resource's class, so that `help`, `dir` and `create_autospec` know its methods.

    Args:
        kind: The resource's class.
        made_from: Name of the session's attribute that the class takes.
    """

    def __init__(self, kind: type[R], *, made_from: str = "_engine") -> None:
        self._kind = kind
        self._made_from = made_from
        self.__doc__ = kind.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, session: None, owner: type) -> type[R]: ...
    @overload
    def __get__(self, session: Any, owner: type) -> R: ...
    def __get__(self, session: Any, owner: type) -> object:
        if session is None:
            return self._kind
        resource = session.__dict__[self._name] = cast(Any, self._kind)(getattr(session, self._made_from))
        return resource
