"""Verification of webhooks: the senders' own vectors, other people's signers, and everything that is not right."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from standardwebhooks.webhooks import Webhook

from leveret.plugins.webhooks.incoming.hmac_schemes import PRESETS, HmacScheme
from leveret.plugins.webhooks.incoming.signed_request import SignedRequest, Unverified, Verifier
from leveret.plugins.webhooks.incoming.verifiers import verifier_of

NOW = 1_700_000_000
BODY = b'{"a": "\xc3\xbc"}'


def signed(now: Any = NOW, query: Any = None, **headers: str) -> SignedRequest:
    """headers: x_hub for x-hub."""
    return SignedRequest(
        {name.replace("_", "-"): [value] for name, value in headers.items()}, query or {}, now
    )


def passes(verifier: Verifier, request: SignedRequest, body: bytes = BODY) -> bool:
    try:
        verifier.check_head(request)
        verifier.check(request, body)
    except Unverified:
        return False
    return True


def mac(key: bytes, content: bytes, algorithm: str = "sha256") -> str:
    return hmac.new(key, content, getattr(hashlib, algorithm)).hexdigest()


def test_github_as_its_documentation_has_it() -> None:
    verifier = verifier_of("hmac", ["It's a Secret to Everybody"], scheme=PRESETS["github"])
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert passes(verifier, signed(x_hub_signature_256=signature), b"Hello, World!")
    assert passes(
        verifier, signed(x_hub_signature_256=signature.upper().replace("SHA", "sha")), b"Hello, World!"
    )
    assert not passes(verifier, signed(x_hub_signature_256=signature), b"Hello, World?")
    assert not passes(verifier, signed(x_hub_signature_256=signature[7:]), b"Hello, World!")
    assert not passes(verifier, signed(x_hub_signature_256=signature[:-2]), b"Hello, World!")
    assert not passes(verifier, signed(x_hub_signature_256="sha256="), b"Hello, World!")
    assert not passes(verifier, signed(x_hub_signature_256="sha256=ü"), b"Hello, World!")
    assert not passes(verifier, signed(), b"Hello, World!")


def test_slack_as_its_documentation_has_it() -> None:
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&"
        b"channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url="
        b"https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id="
        b"398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    verifier = verifier_of("hmac", ["8f742231b10e8888abcd99yyyzzz85a5"], scheme=PRESETS["slack"])
    headers = {
        "x_slack_request_timestamp": "1531420618",
        "x_slack_signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    }
    assert passes(verifier, signed(1531420618 + 299, **headers), body)
    assert not passes(verifier, signed(1531420618 + 301, **headers), body)
    assert not passes(verifier, signed(1531420618 - 301, **headers), body)
    assert not passes(
        verifier, signed(1531420618, **headers | {"x_slack_request_timestamp": "1531420619"}), body
    )


def test_shopify() -> None:
    verifier = verifier_of("hmac", ["hush"], scheme=PRESETS["shopify"])
    signature = base64.b64encode(hmac.new(b"hush", BODY, hashlib.sha256).digest()).decode()
    assert passes(verifier, signed(x_shopify_hmac_sha256=signature))
    assert not passes(verifier, signed(x_shopify_hmac_sha256=signature.rstrip("=")))
    assert not passes(verifier, signed(x_shopify_hmac_sha256=signature), BODY + b" ")


@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "sha384", "sha1"])
def test_hmac_in_general(algorithm: str) -> None:
    scheme = HmacScheme(
        "x-sig", algorithm, "hex", "v0=", "{timestamp},{body}!{timestamp}", "x-time", tolerance_s=10
    )
    verifier = verifier_of("hmac", ["old", "new"], scheme=scheme)
    content = b"%d,%s!%d" % (NOW, BODY, NOW)
    for key in (b"old", b"new"):
        signature = "v0=" + mac(key, content, algorithm)
        assert passes(verifier, signed(x_sig=signature, x_time=str(NOW)))
        assert passes(verifier, signed(x_sig=f"v0=00, {signature}", x_time=str(NOW)))
    assert not passes(verifier, signed(x_sig="v0=" + mac(b"other", content, algorithm), x_time=str(NOW)))
    assert not passes(verifier, signed(NOW + 11, x_sig=signature, x_time=str(NOW)))
    assert not passes(verifier, signed(x_sig=signature, x_time="soon"))
    assert not passes(verifier, signed(x_sig=signature))
    # The twentieth is looked at, further ones are not.
    assert passes(verifier, signed(x_sig="x," * 19 + signature, x_time=str(NOW)))
    assert not passes(verifier, signed(x_sig="x," * 20 + signature, x_time=str(NOW)))


def test_stripe() -> None:
    verifier = verifier_of("stripe", ["whsec_one", "whsec_two"])
    old, new = (mac(key, b"%d.%s" % (NOW, BODY)) for key in (b"whsec_one", b"whsec_two"))
    for value in (
        f"t={NOW},v1={old}",
        f"t={NOW},v1={new},v0=x",
        f"v1=00,t={NOW},v1={old}",
        f"t={NOW}, v1={new}",
    ):
        assert passes(verifier, signed(stripe_signature=value)), value
    assert passes(verifier, signed(NOW + 300, stripe_signature=f"t={NOW},v1={new}"))
    assert passes(verifier, signed(NOW - 5000, stripe_signature=f"t={NOW},v1={new}"))
    assert not passes(verifier, signed(NOW + 301, stripe_signature=f"t={NOW},v1={new}"))
    for value in (
        "",
        f"t={NOW}",
        f"t={NOW + 1},v1={new}",
        f"v1={new}",
        f"t=x,v1={new}",
        f"t={NOW},v0={new}",
        "ü",
    ):
        assert not passes(verifier, signed(stripe_signature=value)), value
    assert not passes(verifier, signed(stripe_signature=f"t={NOW},v1={new}"), BODY + b"x")


SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_standard_webhooks_as_the_specification_has_it() -> None:
    verifier = verifier_of("standard", [SECRET])
    headers = {
        "webhook_id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook_timestamp": "1614265330",
        "webhook_signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    body = b'{"test": 2432232314}'
    assert passes(verifier, signed(1614265330, **headers), body)
    assert passes(verifier, signed(1614265330 - 300, **headers), body)
    assert not passes(verifier, signed(1614265330 - 301, **headers), body)
    assert not passes(verifier, signed(1614265330 + 301, **headers), body)
    for name in headers:
        without = {key: value for key, value in headers.items() if key != name}
        assert not passes(verifier, signed(1614265330, **without), body)
    for wrong in ("", "v1", "v1,", "v1,x", "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "v1a,AAAA"):
        assert not passes(verifier, signed(1614265330, **headers | {"webhook_signature": wrong}), body)
    several = "v1a,AAAA v2,x v1,AAAA " + headers["webhook_signature"]
    assert passes(verifier, signed(1614265330, **headers | {"webhook_signature": several}), body)


def test_standard_webhooks_of_the_reference_library() -> None:
    at = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    signature = Webhook(SECRET).sign("id", at, BODY.decode())
    headers = {"webhook_id": "id", "webhook_timestamp": str(NOW), "webhook_signature": signature}
    other = "whsec_" + base64.b64encode(b"k" * 24).decode()
    assert passes(verifier_of("standard", [other, SECRET]), signed(**headers))
    assert passes(verifier_of("standard", [SECRET.removeprefix("whsec_")]), signed(**headers))
    assert not passes(verifier_of("standard", [other]), signed(**headers))


def test_standard_webhooks_with_public_keys() -> None:
    private = Ed25519PrivateKey.generate()
    key = "whpk_" + base64.b64encode(private.public_key().public_bytes_raw()).decode()
    verifier = verifier_of("standard", [key])
    signature = base64.b64encode(private.sign(b"id.%d.%s" % (NOW, BODY))).decode()
    headers = {"webhook_id": "id", "webhook_timestamp": str(NOW)}
    assert passes(verifier, signed(webhook_signature=f"v1a,{signature}", **headers))
    assert not passes(verifier, signed(webhook_signature=f"v1,{signature}", **headers))
    assert not passes(verifier, signed(webhook_signature=f"v1a,{signature}", **headers), BODY + b"x")
    for wrong in ("whpk_AAAA", "whpk_!", "whsec_AAAA"):
        with pytest.raises(ValueError, match=r"secret|key"):
            verifier_of("standard", [wrong])


def test_svix_has_names_of_its_own() -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    signature = Webhook(secret).sign(
        "msg_1", datetime.datetime.fromtimestamp(NOW, datetime.UTC), BODY.decode()
    )
    request = signed(svix_id="msg_1", svix_timestamp=str(NOW), svix_signature=signature)
    assert passes(verifier_of("svix", [secret]), request)
    assert not passes(verifier_of("standard", [secret]), request)


def test_twilio_as_its_documentation_has_it() -> None:
    """https://www.twilio.com/docs/usage/security: form fields, sorted, behind the URL."""
    verifier = verifier_of("twilio", ["12345"], public_url="https://mycompany.com")
    body = (
        b"CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309&To=%2B18005551212"
    )
    request = SignedRequest(
        {"x-twilio-signature": ["RSOYDt4T1cUTdK1PDd93/VVr8B8="]}, {}, NOW, "/myapp.php?foo=1&bar=2"
    )
    assert passes(verifier, request, body)
    assert not passes(verifier, request, body + b"&X=1")
    digest = hashlib.sha256(BODY).hexdigest()
    target = f"/in?bodySHA256={digest}"
    text = f"https://mycompany.com{target}".encode()
    signature = base64.b64encode(hmac.new(b"12345", text, hashlib.sha1).digest()).decode()
    request = SignedRequest({"x-twilio-signature": [signature]}, {"bodySHA256": digest}, NOW, target)
    assert passes(verifier, request)
    assert not passes(verifier, request, BODY + b" ")


@pytest.mark.parametrize(
    ("timestamp", "is_right"),
    [
        (str(NOW), True), (str(NOW * 1000 + 17), True), ("2023-11-14T22:13:20Z", True),
        ("2023-11-14T22:13:20.123456789Z", True), ("2023-11-14T23:13:20+01:00", True), (str(NOW - 301), False),
        ("2023-11-14T22:13:20", False), ("2023-11-14", False), ("yesterday", False), ("\u0661", False),
    ],
)  # fmt: skip
def test_timestamps_of_hmac_in_all_their_forms(timestamp: str, is_right: bool) -> None:
    scheme = HmacScheme("x-sig", content="{header:X-Id}.{timestamp}.{body}", timestamp_header="x-time")
    verifier = verifier_of("hmac", ["hush"], scheme=scheme)
    signature = mac(b"hush", b"7." + timestamp.encode() + b"." + BODY)
    assert passes(verifier, signed(x_sig=signature, x_id="7", x_time=timestamp)) == is_right
    assert not passes(verifier, signed(x_sig=signature, x_id="8", x_time=timestamp))
    assert not passes(verifier, signed(x_sig=signature, x_time=timestamp))


def test_passwords_and_tokens() -> None:
    def login(text: str) -> str:
        return "Basic " + base64.b64encode(text.encode()).decode()

    basic = verifier_of("basic", ["old", "n:ew"], username="ü")
    assert passes(basic, signed(authorization=login("ü:old")))
    assert passes(basic, signed(authorization=login("ü:n:ew").replace("Basic", "bAsIc")))
    for wrong in (login("ü:new"), login("u:old"), login("ü"), "Basic !", "Bearer old", ""):
        assert not passes(basic, signed(authorization=wrong))
    assert not passes(basic, signed())
    bearer = verifier_of("bearer", ["t1", "t2"])
    assert passes(bearer, signed(authorization="Bearer t2"))
    assert passes(bearer, signed(query={"access_token": "t1"}))
    assert not passes(bearer, signed(authorization="Bearer t3"))
    assert not passes(bearer, signed(authorization="Basic t1"))
    assert not passes(bearer, signed())
    token = verifier_of("token", ["t1"], header="x-gitlab-token")
    assert passes(token, signed(x_gitlab_token="t1"))
    assert not passes(token, signed(x_gitlab_token="t"))
    assert not passes(token, signed(x_gitlab_token="\udcff"))
    assert not passes(token, signed(authorization="Bearer t1"))
    assert passes(verifier_of("none", []), signed())


def test_secrets_are_in_no_representation() -> None:
    for kind, secret in (("standard", SECRET), ("stripe", "hush"), ("basic", "hush"), ("bearer", "hush")):
        assert "hush" not in repr(verifier_of(kind, [secret]))
        assert SECRET not in repr(verifier_of(kind, [secret]))
    assert "hush" not in repr(verifier_of("hmac", ["hush"], scheme=PRESETS["github"]))
