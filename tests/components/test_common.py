"""What is known of an output whose resource has failed, as the SDK itself lets it fail."""

from __future__ import annotations

from typing import Any, NoReturn

import grpc
import pulumi
import pytest
from recording import Recorder, run

from components.common import known


class Refused(grpc.RpcError):
    """What gRPC raises for a request that the engine refuses."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "resource monitor shut down"


def value_of_leaf(**monitor: Any) -> Any:
    """What `known` says of a resource's output."""

    def program() -> dict[str, Any]:
        leaf = pulumi.CustomResource("test:index:Leaf", "leaf", {})
        return {"id": known(leaf.id)}

    return run(program, **monitor).values["id"]


def test_a_resource_that_is_made_is_known() -> None:
    assert value_of_leaf() == "id-of-leaf"


def test_one_that_has_failed_is_not_with_continue_on_error() -> None:
    assert value_of_leaf(failing=["leaf"]) is None


@pytest.mark.parametrize("code", [grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE])
def test_nor_without_it_when_the_engine_ends(monkeypatch: pytest.MonkeyPatch, code: grpc.StatusCode) -> None:
    def refuse(self: Recorder, request: Any) -> NoReturn:
        raise Refused(code)

    seen: list[Any] = []

    async def look(output: pulumi.Output[Any]) -> None:
        seen.append(await known(output))

    def program() -> dict[str, Any]:
        monkeypatch.setattr(Recorder, "RegisterResource", refuse)
        leaf = pulumi.CustomResource("test:index:Leaf", "leaf", {})
        return {"looked": look(leaf.id)}

    with pytest.raises(Exception, match=r"[Rr]esource monitor"):
        run(program)
    assert seen == [None]


def test_a_mistake_of_this_program_is_not_taken_for_that() -> None:
    def program() -> dict[str, Any]:
        wrong = pulumi.Output.from_input(1).apply(lambda number: number.upper())  # type: ignore[attr-defined]
        return {"value": known(wrong)}

    with pytest.raises(AttributeError, match="upper"):
        run(program)
