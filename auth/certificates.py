"""User names from X.509 certificates, as RabbitMQ forms them (rabbit_ssl.erl, rabbit_cert_info.erl)."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["certificate_name", "distinguished_name"]

# RabbitMQ's short names for OpenSSL's names; attributes without a short name are shown by number.
SHORT_NAMES = {
    "commonName": "CN", "surname": "SN", "givenName": "GIVENNAME", "initials": "INITIALS",
    "generationQualifier": "GENERATIONQUALIFIER", "localityName": "L", "stateOrProvinceName": "ST",
    "organizationName": "O", "organizationalUnitName": "OU", "title": "TITLE", "countryName": "C",
    "serialNumber": "SERIALNUMBER", "pseudonym": "PSEUDONYM", "domainComponent": "DC",
    "emailAddress": "EMAILADDRESS", "userId": "UID", "streetAddress": "2.5.4.9", "postalCode": "2.5.4.17",
}  # fmt: skip
SAN_TYPES = {"dns": "DNS", "ip": "IP Address", "email": "email", "uri": "URI"}

Subject = tuple[tuple[tuple[str, str], ...], ...]


def certificate_name(
    certificate: Mapping[str, object], source: str, *, san_type: str = "dns", san_index: int = 0
) -> str | None:
    """The user name in a certificate as `ssl.SSLSocket.getpeercert` gives it; None if there is none.

    source: distinguished_name, common_name, or subject_alternative_name (subject_alt_name), then of `san_type`
    (dns, ip, email, uri) the one at `san_index`.
    """
    subject: Subject = certificate.get("subject", ())  # type: ignore[assignment]  # getpeercert: Mapping of objects
    match source:
        case "distinguished_name":
            return distinguished_name(subject) or None
        case "common_name":
            names = [value for part in subject for name, value in part if name == "commonName"]
            return ",".join(names) or None
        case "subject_alternative_name" | "subject_alt_name":
            alternatives: tuple[tuple[str, str], ...] = certificate.get("subjectAltName", ())  # type: ignore[assignment]
            names = [value for kind, value in alternatives if kind == SAN_TYPES.get(san_type)]
            return names[san_index] if 0 <= san_index < len(names) else None
    return None


def distinguished_name(subject: Subject) -> str:
    """The subject as RFC 4514 writes it: the last part first, separators in values escaped."""
    parts = [
        "+".join(f"{SHORT_NAMES.get(name, name)}={_escaped(value)}" for name, value in part)
        for part in subject
    ]
    return ",".join(reversed(parts))


def _escaped(value: str) -> str:
    """Escape a value (RFC 4514 2.4). As in RabbitMQ, characters outside printable ASCII, and ~, are shown as UTF-8 bytes."""
    shown = "".join(
        f"\\{character}"
        if character in '"+,;<>\\'
        else character
        if " " <= character < "~"
        else "".join(f"\\{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
        for character in value
    )
    if value.endswith(" "):
        shown = shown[:-1] + "\\ "
    if value.startswith((" ", "#")) and not shown.startswith("\\"):
        shown = "\\" + shown
    return shown
