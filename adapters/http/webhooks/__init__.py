"""Webhooks: those that go out, managed at /v1/webhooks; those that come in, at /hooks, managed at /v1/webhook-sources."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web

    from leveret.adapters.http.app import HttpContext
__all__ = ["routes"]


def routes(context: HttpContext) -> list[web.RouteDef]:
    # Imported here: signers of webhooks need nothing of this, but what is beside it (standard.py).
    from aiohttp import web

    from leveret.adapters.http.webhooks import outgoing
    from leveret.adapters.http.webhooks.incoming import Hooks
    from leveret.adapters.http.webhooks.incoming_admin import Administration
    from leveret.adapters.http.webhooks.incoming_source import COMPONENT, Sources

    sources = Sources()
    context.broker.components[COMPONENT] = sources
    hooks = Hooks(context, sources)
    context.measured.append(hooks)
    administration = Administration(context, hooks)
    hook = "/hooks/{vhost}/{name}{rest:(/.*)?}"
    one = "/v1/webhook-sources/{vhost}/{name}"
    return [
        *outgoing.routes(context),
        web.post(hook, hooks.receive),
        web.get(hook, hooks.ask, allow_head=False),
        web.options(hook, hooks.handshake),
        web.get("/v1/webhook-sources", administration.list_all),
        web.get("/v1/webhook-sources/{vhost}", administration.list_one),
        web.get(one, administration.get),
        web.put(one, administration.put),
        web.patch(one, administration.patch),
        web.delete(one, administration.delete),
    ]
