"""The opening handshake's verdicts: RFC 6455's sample, paths, versions, origins, subprotocols, logins."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.websocket_peer import FrameBuffer, Response, basic, check_accepted, request

from leveret.adapters.base import WebSocketSpec
from leveret.adapters.websocket.handshake import Acceptance, Refusal, answer
from leveret.conf.settings import Websocket

SPEC = WebSocketSpec(("v12.stomp", "v11.stomp", "v10.stomp"))
SETTINGS = Websocket()


def accepted(head: bytes, settings: Websocket = SETTINGS) -> tuple[Acceptance, Response]:
    acceptance = answer(head, SPEC, settings)
    buffer = FrameBuffer()
    buffer.data = acceptance.response
    response = buffer.response()
    assert response is not None
    check_accepted(response)
    assert not buffer.data
    return acceptance, response


def refused(head: bytes, settings: Websocket = SETTINGS) -> Response:
    with pytest.raises(Refusal) as caught:
        answer(head, SPEC, settings)
    buffer = FrameBuffer()
    buffer.data = caught.value.response
    response = buffer.response()
    assert response is not None
    assert response.headers["connection"] == "close"
    assert response.body
    return response


def test_the_sample_of_rfc_6455() -> None:
    head = (
        b"GET /ws HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n"
        b"Sec-WebSocket-Protocol: chat, v11.stomp\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    acceptance, response = accepted(head)
    assert response.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert response.headers["sec-websocket-protocol"] == "v11.stomp"
    assert acceptance.http_login is None


@pytest.mark.parametrize("path", ["/ws", "/ws/", "/ws?token=1", "http://broker.example/ws"])
def test_the_path(path: str) -> None:
    accepted(request(path))


@pytest.mark.parametrize("path", ["/", "/wss", "/ws/x", "/WS", "/x?/ws", "*"])
def test_another_path_is_not_found(path: str) -> None:
    assert refused(request(path)).status == 404
    assert refused(request(path, Upgrade=None)).status == 404


def test_the_path_is_a_setting() -> None:
    settings = replace(SETTINGS, path="/mqtt")
    accepted(request("/mqtt"), settings)
    assert refused(request("/ws"), settings).status == 404
    accepted(request("/"), replace(SETTINGS, path="/"))
    accepted(request("/ws"), replace(SETTINGS, path="ws"))


def test_names_and_tokens_are_case_insensitive() -> None:
    accepted(request(Upgrade="WebSocket", Connection="keep-alive, UPGRADE"))


@pytest.mark.parametrize(
    "head",
    [
        request(Upgrade=None),
        request(Upgrade="h2c"),
        request(Connection=None),
        request(Connection="keep-alive"),
        request(Host=None),
        request(Sec_WebSocket_Version=None),
        request(Sec_WebSocket_Key=None),
        request(Sec_WebSocket_Key="c2hvcnQ="),
        request(Sec_WebSocket_Key="not base64 at all!!"),
        request(Content_Length="5"),
        request(Transfer_Encoding="chunked"),
        request(http="HTTP/1.0"),
        request(http="HTTP/2.0"),
        request(X="\u00e9", Sec_WebSocket_Protocol="\u00e9"),
        request("/ws bad"),
        request("http://[/ws"),
        b"\r\n\r\n",
        b"GET /ws HTTP/1.1\r\n broken\r\n\r\n",
        b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04abcd\r\n\r\n",
        request().replace(b"Host: localhost\r\n", b"Host: a\r\nHost: b\r\n"),
    ],
)
def test_what_is_malformed(head: bytes) -> None:
    assert refused(head).status == 400


def test_another_version_is_told_ours() -> None:
    response = refused(request(Sec_WebSocket_Version="8"))
    assert response.status == 426
    assert response.headers["sec-websocket-version"] == "13"
    assert response.headers["upgrade"] == "websocket"


def test_another_method_is_refused() -> None:
    response = refused(request(method="POST"))
    assert response.status == 405
    assert response.headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["v12.stomp"], "v12.stomp"),
        (["v10.stomp", "v11.stomp", "v12.stomp"], "v12.stomp"),
        (["foo", "v10.stomp"], "v10.stomp"),
        (["foo"], None),
        ([], None),
    ],
)
def test_the_best_of_ours_is_chosen(offered: list[str], chosen: str | None) -> None:
    acceptance, response = accepted(request(subprotocols=offered))
    assert acceptance.subprotocol == chosen
    assert response.headers.get("sec-websocket-protocol") == chosen


def test_subprotocols_in_several_headers() -> None:
    head = request(subprotocols=["foo"]).replace(
        b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: v11.stomp\r\n\r\n"
    )
    assert accepted(head)[0].subprotocol == "v11.stomp"


def test_compression_is_not_agreed_to() -> None:
    _, response = accepted(request(Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits"))
    assert "sec-websocket-extensions" not in response.headers


ORIGINS = replace(SETTINGS, origins=("https://app.example", "http://Local.test:8080"))


@pytest.mark.parametrize(
    "origin",
    [None, "https://app.example", "HTTPS://APP.example:443", "http://local.test:8080"],
)
def test_an_allowed_origin(origin: str | None) -> None:
    accepted(request(Origin=origin), ORIGINS)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example", "http://app.example", "https://app.example:444", "http://local.test", "null", "",
        "https://app.example.evil.example", "https://app.example:x", "app.example",
    ],
)  # fmt: skip
def test_another_origin_is_refused(origin: str) -> None:
    assert refused(request(Origin=origin), ORIGINS).status == 403
    accepted(request(Origin=origin))  # where none is named


def test_two_origins_are_none() -> None:
    head = request(Origin="https://app.example").replace(
        b"\r\n\r\n", b"\r\nOrigin: https://evil.example\r\n\r\n"
    )
    assert refused(head, ORIGINS).status == 403


def test_the_basic_login() -> None:
    acceptance, _ = accepted(request(Authorization=basic("ad\u00e9le", "pass:word")))
    assert acceptance.http_login == ("ad\u00e9le", "pass:word")
    assert "pass" not in repr(acceptance)


def test_other_schemes_are_no_login() -> None:
    assert accepted(request(Authorization="Bearer abc"))[0].http_login is None


@pytest.mark.parametrize("value", ["Basic", "Basic !!!", "basic Z3Vlc3Q=", "Basic /////w=="])
def test_a_broken_login_is_refused(value: str) -> None:
    assert refused(request(Authorization=value)).status == 400
