"""Standard Webhooks signatures: the published vectors, rotation, refusals, and the reference library as the judge."""

from __future__ import annotations

import base64
import hmac
import json
import time
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from leveret.plugins.webhooks.standard_webhooks import Secret, new_secret, signatures

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID, TIMESTAMP, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_vector() -> None:
    assert signatures([Secret.of(SECRET)], ID, TIMESTAMP, BODY) == SIGNATURE


def test_the_reference_library_signs_alike() -> None:
    theirs = Webhook(SECRET).sign(ID, datetime.fromtimestamp(TIMESTAMP, UTC), BODY.decode())
    assert theirs == SIGNATURE


@pytest.mark.parametrize(
    "body",
    [b"{}", '{"\u00e4": "\u20ac \U0001f407"}'.encode(), b'{ "a" :\t1 }\n', b"[" + b"1," * 50_000 + b"1]"],
)
def test_the_reference_library_verifies_exactly_these_bytes(body: bytes) -> None:
    secret, now = new_secret(), int(time.time())
    value = signatures([Secret.of(secret)], "msg_1", now, body)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(now), "webhook-signature": value}
    assert Webhook(secret).verify(body, headers) == json.loads(body)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body + b" ", headers)


def test_bytes_that_are_no_text_are_signed_too() -> None:
    body = b"\x00\xff\xfe"
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.digest(key, b"msg_1.5." + body, "sha256")).decode()
    assert signatures([Secret.of(SECRET)], "msg_1", 5, body) == f"v1,{expected}"


def test_rotation_signs_with_all_that_are_valid_the_current_first() -> None:
    new, old, oldest = new_secret(), new_secret(), new_secret()
    keys = [Secret.of(new), Secret.of(old, expires_at=TIMESTAMP + 1), Secret.of(oldest, expires_at=TIMESTAMP)]
    value = signatures(keys, ID, TIMESTAMP, BODY)
    assert value.split(" ") == [
        signatures([Secret.of(new)], ID, TIMESTAMP, BODY),
        signatures([Secret.of(old)], ID, TIMESTAMP, BODY),
    ]


def test_no_secret_no_signature() -> None:
    assert signatures([], ID, TIMESTAMP, BODY) == ""


def test_ed25519() -> None:
    key = Ed25519PrivateKey.generate()
    seed = key.private_bytes_raw()
    for raw in (seed, seed + key.public_key().public_bytes_raw()):
        secret = Secret.of("whsk_" + base64.b64encode(raw).decode())
        version, _, signature = signatures([secret], ID, TIMESTAMP, BODY).partition(",")
        assert version == "v1a"
        key.public_key().verify(base64.b64decode(signature), f"{ID}.{TIMESTAMP}.".encode() + BODY)


def test_both_kinds_together() -> None:
    symmetric = Secret.of(SECRET)
    asymmetric = Secret.of("whsk_" + base64.b64encode(bytes(32)).decode())
    value = signatures([asymmetric, symmetric], ID, TIMESTAMP, BODY)
    assert [one[: one.index(",")] for one in value.split(" ")] == ["v1a", "v1"]
    assert value.endswith(SIGNATURE)


@pytest.mark.parametrize(
    "text",
    ["", "whsec_", "whsec_" + base64.b64encode(bytes(23)).decode(), "whsec_" + base64.b64encode(bytes(65)).decode(),
     "whsec_not base64", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", "whsk_" + base64.b64encode(bytes(31)).decode()],
)  # fmt: skip
def test_bad_secrets_are_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ValueError, match=r"secret|key") as error:
        Secret.of(text)
    tail = text.partition("_")[2]
    assert not tail or tail not in str(error.value)


def test_a_secret_is_not_in_its_repr() -> None:
    assert SECRET not in repr(Secret.of(SECRET))
    assert "MfKQ" not in repr(Secret.of(SECRET, 5.0))


def test_new_secrets_differ_and_fit() -> None:
    one, other = new_secret(), new_secret()
    assert one != other
    assert len(base64.b64decode(one.removeprefix("whsec_"))) == 32
