"""Runtime parameters by `leveret ctl`."""

from __future__ import annotations

import pytest
from support.in_process import broker_in_process

from leveret.adapters.control.parameters import PARAMETERS
from leveret.adapters.control.server import OperationRefused
from leveret.core.errors import NotFound


class Owner:
    def check(self, vhost: object, name: str, value: object) -> object:
        return value

    def masked(self, value: object) -> object:
        return {"secret": "***"}


async def test_set_listed_and_cleared() -> None:
    async with broker_in_process() as server:
        broker = server.broker
        PARAMETERS["set_parameter"](broker, vhost="/", component="c", name="n", value='{"a":1}')
        assert broker.vhosts["/"].parameters["c", "n"] == {"a": 1}
        assert PARAMETERS["list_parameters"](broker, vhost="/")["rows"] == [
            {"component": "c", "name": "n", "value": '{"a":1}'}
        ]
        PARAMETERS["clear_parameter"](broker, vhost="/", component="c", name="n")
        with pytest.raises(NotFound):
            PARAMETERS["clear_parameter"](broker, vhost="/", component="c", name="n")
        with pytest.raises(OperationRefused):
            PARAMETERS["set_parameter"](broker, vhost="/", component="c", name="n", value="{")


async def test_secrets_are_not_shown() -> None:
    async with broker_in_process() as server:
        server.broker.components["hook"] = Owner()
        PARAMETERS["set_parameter"](
            server.broker, vhost="/", component="hook", name="n", value='{"secret":"x"}'
        )
        assert PARAMETERS["list_parameters"](server.broker, vhost="/")["rows"] == [
            {"component": "hook", "name": "n", "value": '{"secret":"***"}'}
        ]


async def test_global_ones() -> None:
    async with broker_in_process() as server:
        PARAMETERS["set_global_parameter"](server.broker, name="n", value="[1]")
        assert server.broker.parameters == {"n": [1]}
        assert PARAMETERS["list_global_parameters"](server.broker)["rows"] == [{"name": "n", "value": "[1]"}]
        PARAMETERS["clear_global_parameter"](server.broker, name="n")
        with pytest.raises(NotFound):
            PARAMETERS["clear_global_parameter"](server.broker, name="n")
