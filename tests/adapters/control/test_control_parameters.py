"""Runtime parameters by `leveret ctl`."""

from __future__ import annotations

import pytest
from support.in_process import broker_in_process

from leveret.adapters.control.operations import OPERATIONS
from leveret.core.errors import InvalidArgument, NotFound


class Owner:
    def check(self, vhost: object, name: str, value: object) -> object:
        return value

    def masked(self, value: object) -> object:
        return {"secret": "***"}


class Plain(Owner):
    def masked(self, value: object) -> object:
        return value


async def test_set_listed_and_cleared() -> None:
    async with broker_in_process() as server:
        broker = server.broker
        broker.components["c"] = Plain()
        OPERATIONS["set_parameter"](broker, vhost="/", component="c", name="n", value='{"a":1}')
        assert broker.vhosts["/"].parameters["c", "n"] == {"a": 1}
        assert OPERATIONS["list_parameters"](broker, vhost="/")["rows"] == [
            {"component": "c", "name": "n", "value": '{"a":1}'}
        ]
        OPERATIONS["clear_parameter"](broker, vhost="/", component="c", name="n")
        with pytest.raises(NotFound):
            OPERATIONS["clear_parameter"](broker, vhost="/", component="c", name="n")
        with pytest.raises(InvalidArgument):
            OPERATIONS["set_parameter"](broker, vhost="/", component="c", name="n", value="{")


async def test_secrets_are_not_shown() -> None:
    async with broker_in_process() as server:
        server.broker.components["hook"] = Owner()
        OPERATIONS["set_parameter"](
            server.broker, vhost="/", component="hook", name="n", value='{"secret":"x"}'
        )
        assert OPERATIONS["list_parameters"](server.broker, vhost="/")["rows"] == [
            {"component": "hook", "name": "n", "value": '{"secret":"***"}'}
        ]


async def test_global_ones() -> None:
    async with broker_in_process() as server:
        OPERATIONS["set_global_parameter"](server.broker, name="n", value="[1]")
        assert server.broker.parameters == {"n": [1]}
        assert OPERATIONS["list_global_parameters"](server.broker)["rows"] == [{"name": "n", "value": "[1]"}]
        OPERATIONS["clear_global_parameter"](server.broker, name="n")
        with pytest.raises(NotFound):
            OPERATIONS["clear_global_parameter"](server.broker, name="n")
