"""A cluster of a few objects by their API paths, for decisions about what is read; the client has tests of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cluster.client import ApiError, Client


class FakeCluster(Client):
    """Answers each path with what it is told, and remembers what it was asked.

    An answer may be an object, a text, an `ApiError` that is raised, or a function that makes one of those.
    """

    def __init__(self, answers: Mapping[str, Any] | Callable[[str], Any] | None = None) -> None:
        super().__init__(None, None)
        self.answers = answers or {}
        self.asked: list[str] = []
        self.sent: list[tuple[str, str, Any]] = []
        """Method, path and body of what was written, or only tried."""

    def _request(self, method: str, path: str, body: Any = None, *_: Any, **__: Any) -> str:
        self.asked.append(path)
        if method != "GET":
            self.sent.append((method, path, body))
        return self._answer(path)

    def exec(
        self, namespace: str, pod: str, container: str, command: Sequence[str], seconds: float | None = None
    ) -> str:
        path = f"{namespace}/{pod}/{container}: {' '.join(command)}"
        self.asked.append(path)
        return self._answer(path)

    def _answer(self, path: str) -> str:
        found = self.answers(path) if callable(self.answers) else self.answers.get(path)
        found = found() if callable(found) else found
        if found is None:
            raise ApiError(f"the Kubernetes API refused: no {path}", status=404, reason="NotFound")
        if isinstance(found, ApiError):
            raise found
        return found if isinstance(found, str) else json.dumps(found)
