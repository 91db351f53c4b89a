"""Templates: what they can say, and that none of them can do harm or take long."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from leveret.plugins.webhooks.outgoing.subscription import TemplateRefused
from leveret.plugins.webhooks.outgoing.template import Template

VALUES: dict[str, Any] = {
    "json": {
        "long": "x" * 100_000,
        "hex": "f" * 100_000,
        "format": "%999999999d",
        "a": "<é>",
        "l": list(range(1000)),
        "o": {"b": 1, "a": 2, "items": 3},
        "f": 1.26,
    },
    "body": 'text " \\ \u20ac',
}


def rendered(source: str, **values: Any) -> str:
    return Template(source).render(VALUES | values).decode()


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("plain", "plain"),
        ("trailing\n", "trailing\n"),
        ("{{ json.o.b + 1 }} {{ 7 % 4 }} {{ 2 * 3 }}", "2 3 6"),
        ("{{ json.o.items }}", "3"),  # the data's member, not Python's method
        ("{{ json.a ~ '!' }}", "<é>!"),
        ("{% for n in json.l if n < 3 %}{{ loop.index }}:{{ n }}{% if not loop.last %},{% endif %}{% endfor %}", "1:0,2:1,3:2"),
        ("{% for key, value in json.o|dictsort %}{{ key }}={{ value }};{% endfor %}", "a=2;b=1;items=3;"),
        ("{{ json.l|length }} {{ json.l|sum }} {{ json.f|round(1) }}", "1000 499500 1.3"),
        ("{{ 'b'|upper }}{{ json.none|default('d') }}{{ json.l|first }}{{ json.l|last }}", "Bd0999"),
        ("{{ [1, 2]|join('-') }} {{ 'a b'|urlencode }} {{ 'ab'|b64encode }}", "1-2 a%20b YWI="),
        ("{% if json.x is defined %}y{% else %}n{% endif %}", "n"),
        ("{{ 'yes' if 'text' in body else 'no' }}", "yes"),
        ("{{ body[:4] }}", "text"),
        ("{{ 3 is odd }}{{ 3 is even }}{{ json.format is odd }}", "TrueFalseFalse"),
        ("{{ ' a '|trim }}{{ 'xax'|trim('x') }}{{ {'a': [1]}|tojson(2)|length }}", "aa22"),
    ],
)  # fmt: skip
def test_what_they_can_say(source: str, text: str) -> None:
    assert rendered(source) == text


def test_tojson_makes_json() -> None:
    assert json.loads(rendered("[{{ body|tojson }}, {{ json|tojson }}]")) == [VALUES["body"], VALUES["json"]]


@pytest.mark.parametrize(
    "source",
    ["{{", "{% for %}", "{{ x|nothing }}", "{{ range(3) }}", "{{ 'a'.upper() }}", "{{ json.get('a') }}", "{{ 2 ** 9 }}",
     "{% set a = 1 %}", "{% with a = 1 %}{% endwith %}", "{% macro m() %}{% endmacro %}", "{% include 'x' %}",
     "{% import 'x' as x %}", "{% extends 'x' %}", "{% block b %}{% endblock %}", "{{ [json, json] }}",
     "{{ {'a': body} }}", "{% for a in json recursive %}{% endfor %}", "{{ _budget }}", "{{ 'x'|_bounded }}",
     "{{ 5 is divisibleby 5 }}", "{{ " + "9" * 5000 + " }}", "{{ " + "not " * 4000 + "1 }}", "{{ " + "(" * 3000,
     "{% for a in json %}" * 60 + "{% endfor %}" * 60, "{{ cycler() }}", "{{ lipsum() }}", "{{ namespace() }}", "{% call x() %}{% endcall %}",
     "{% filter upper %}{% endfilter %}", "x" * 20_000],
)  # fmt: skip
def test_refused_when_set(source: str) -> None:
    with pytest.raises(TemplateRefused):
        Template(source)


@pytest.mark.parametrize(
    "source",
    ["{{ missing }}", "{{ json.missing.more }}", "{{ 'a' * 3 }}", "{{ '%99999999d' % 1 }}", "{{ json.a.__class__ }}",
     "{{ json.a['__class__']['__mro__'] }}", "{{ json.l.__len__ }}",
     "{{ json.l|join(body|tojson|tojson|tojson|tojson|tojson|tojson|tojson|tojson|tojson|tojson|tojson|tojson) }}",
     "{{ body" + "|tojson" * 40 + " }}",
     "{% for a in json.l %}{% for b in json.l %}{% endfor %}{% endfor %}",
     "{% for a in json.l %}{% for b in json.l %}{{ body }}{% endfor %}{% endfor %}",
     "{{ json.l|sum(start=body) }}", "{{ 1 / 0 }}", "{{ json.l|join(1, 2, 3) }}", "{{ 1" + " * 99999999" * 200 + " }}",
     # what asks for more work than its input is large
     "{{ 5|round(-1000000000) }}", "{{ 5|round(1000000000, 'ceil') }}", "{{ json|tojson(indent=1000000000) }}",
     "{{ json|tojson(indent=body) }}", "{{ body|trim(json.long) }}", "{{ json.long|sort }}", "{{ json.long|unique|list }}",
     "{{ json.hex|int(0, 16) }}", "{{ ('f' * 3)|int(0, 16) }}"],
)  # fmt: skip
def test_refused_when_rendered_and_soon(source: str) -> None:
    begun = time.monotonic()
    with pytest.raises(TemplateRefused):
        rendered(source)
    assert time.monotonic() - begun < 1


def test_the_body_has_a_longest_length() -> None:
    with pytest.raises(TemplateRefused, match="longer than"):
        rendered("{{ body }}", body="x" * ((1 << 18) + 1))


def test_concatenations_have_a_longest_length() -> None:
    with pytest.raises(TemplateRefused, match="too long"):
        rendered("{{ " + " ~ ".join(["body"] * 20) + " }}", body="x" * (1 << 18))
    with pytest.raises(TemplateRefused, match="too long"):
        rendered("{{ " + " + ".join(["body"] * 20) + " }}", body="x" * (1 << 18))
