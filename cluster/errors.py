"""The one error of the cluster: the program's readers need not know how its client works to handle it."""

from __future__ import annotations


class ApiError(Exception):
    """The Kubernetes API gave no answer, or refused; the message is for people and says what to do."""

    def __init__(self, text: str, *, status: int | None = None, reason: str = "") -> None:
        super().__init__(text)
        self.status = status
        """HTTP status; None where there was no answer."""
        self.reason = reason
        """The API's own word, such as `Forbidden` or `AlreadyExists`; empty where it gave none."""
