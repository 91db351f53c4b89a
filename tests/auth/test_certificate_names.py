"""EXTERNAL: features/auth 5a "EXTERNAL / cert login". Names were compared with what RabbitMQ 3.10.8 makes of the
same certificates."""

from __future__ import annotations

import pytest

from leveret.auth.certificates import certificate_name, distinguished_name


def subject(*parts: tuple[str, str]) -> tuple[tuple[tuple[str, str], ...], ...]:
    return tuple((part,) for part in parts)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (subject(("commonName", "x")), "CN=x"),
        (subject(("countryName", "DE"), ("organizationName", "Acme"), ("commonName", "x")), "CN=x,O=Acme,C=DE"),
        (
            subject(
                ("countryName", "DE"), ("organizationName", 'Acme, "Inc" + <co>;\\'), ("commonName", "José ~x")
            ),
            "CN=Jos\\C3\\A9 \\7Ex,O=Acme\\, \\\"Inc\\\" \\+ \\<co\\>\\;\\\\,C=DE",
        ),
        (
            subject(("commonName", " #lead"), ("commonName", "trail  "), ("emailAddress", "a@b.c")),
            "EMAILADDRESS=a@b.c,CN=trail \\ ,CN=\\ #lead",
        ),
        (
            (
                (("commonName", "#x"), ("userId", "u1")), (("domainComponent", "org"),), (("surname", "S"),),
                (("serialNumber", "7"),), (("streetAddress", "st"),), (("title", "t"),), (("givenName", "g"),),
                (("stateOrProvinceName", "s"),), (("localityName", "l"),), (("organizationalUnitName", "ou"),),
                (("postalCode", "pc"),), (("pseudonym", "ps"),), (("generationQualifier", "gq"),),
                (("initials", "in"),),
            ),
            ("INITIALS=in,GENERATIONQUALIFIER=gq,PSEUDONYM=ps,2.5.4.17=pc,OU=ou,L=l,ST=s,GIVENNAME=g,TITLE=t,"
            "2.5.4.9=st,SERIALNUMBER=7,SN=S,DC=org,CN=\\#x+UID=u1"),
        ),
        (subject(("commonName", " ")), "CN=\\ "),
        (subject(("commonName", "")), "CN="),
        (subject(("commonName", "a\0b")), "CN=a\\00b"),
        (subject(("jurisdiction", "x")), "jurisdiction=x"),
        ((), ""),
    ],
)  # fmt: skip
def test_distinguished_names(parts: tuple[tuple[tuple[str, str], ...], ...], expected: str) -> None:
    assert distinguished_name(parts) == expected


def test_no_value_passes_for_two_parts() -> None:
    honest = subject(("organizationName", "Acme"), ("commonName", "admin"))
    liar = subject(("commonName", "admin,O=Acme"))
    assert distinguished_name(honest) != distinguished_name(liar)
    assert distinguished_name(((("commonName", "a"), ("userId", "u")),)) != distinguished_name(
        subject(("commonName", "a+UID=u"))
    )


CERTIFICATE = {
    "subject": subject(("commonName", "one"), ("commonName", "two")),
    "subjectAltName": (
        ("DNS", "d1"), ("DNS", "d2"), ("email", "e@x"), ("URI", "urn:x"), ("IP Address", "10.0.0.1"),
    ),
}  # fmt: skip


def test_common_names() -> None:
    assert certificate_name(CERTIFICATE, "common_name") == "one,two"
    assert certificate_name(CERTIFICATE, "distinguished_name") == "CN=two,CN=one"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "d1"),
        ({"san_index": 1}, "d2"),
        ({"san_index": 2}, None),
        ({"san_index": -1}, None),
        ({"san_type": "ip"}, "10.0.0.1"),
        ({"san_type": "email"}, "e@x"),
        ({"san_type": "uri"}, "urn:x"),
        ({"san_type": "other_name"}, None),
    ],
)
@pytest.mark.parametrize("source", ["subject_alternative_name", "subject_alt_name"])
def test_alternative_names(source: str, options: dict[str, object], expected: str | None) -> None:
    assert certificate_name(CERTIFICATE, source, **options) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "source", ["distinguished_name", "common_name", "subject_alternative_name", "anything"]
)
def test_a_certificate_without_names(source: str) -> None:
    assert certificate_name({"subject": ()}, source) is None
    assert certificate_name({}, source) is None
