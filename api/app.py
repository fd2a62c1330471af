"""The application: routes, middleware and error handlers, wired together in one place."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.types import ASGIApp

from api.auth.authenticator import Authenticator
from api.auth.guard import authorized, unauthenticated
from api.http.params import check_target
from api.http.problems import EXCEPTION_HANDLERS
from api.ingest.door import BATCH_BYTES_MAX
from api.ingest.fast_posts import fast_path_first
from api.middleware.browser_origins import browser_origins
from api.middleware.compression import compressed
from api.middleware.head import head_as_get
from api.middleware.host_guard import loopback_hosts_only
from api.middleware.options_methods import options_handlers
from api.middleware.request_metrics import counted
from api.openapi.document import AUTHENTICATED, openapi_config, openapi_document, reference_assets
from api.page.files import PageFiles
from api.page.routes import page_handlers
from api.routes.access import audit, credentials, sessions
from api.routes.alerts import backtests, channels, incidents, rules
from api.routes.devices import presence, profiles, registry
from api.routes.events import aggregates, exports, history, latest, posts, rejected, search
from api.routes.service import asyncapi, health, info
from api.routes.streams import feed, live
from api.serve.workers import Worker
from api.services import Services
from runtime.health import Health
from runtime.settings import Settings

OTHER_BYTES_MAX = 64 * 1024
PAGES = ("/", "/docs", "/asyncapi")  # Made to be looked at, from wherever a link leads there.


def create_app(settings: Settings, services: Services) -> ASGIApp:
    """The ASGI application that the server calls for each request."""
    return with_fast_path(create_litestar(settings, services), settings, services)


def with_fast_path(routes: Litestar, settings: Settings, services: Services) -> ASGIApp:
    """What comes before the routes."""
    return fast_path_first(
        head_as_get(compressed(routes)),
        posts.fast_posts(services.door, settings.max_payload_bytes),
        _middleware(settings, services),
    )


def create_litestar(settings: Settings, services: Services) -> Litestar:
    """Every route, and the OpenAPI document."""
    handlers = _handlers(settings)
    return Litestar(
        route_handlers=[*options_handlers(handlers), *handlers],
        dependencies=_dependencies(services),
        before_request=check_target,
        exception_handlers=EXCEPTION_HANDLERS,
        middleware=[*_middleware(settings, services)],
        openapi_config=openapi_config(),
        request_max_body_size=OTHER_BYTES_MAX,
        state=State({health.WORKER: services.worker, AUTHENTICATED: settings.authenticated}),
        logging_config=None,
    )


def _handlers(settings: Settings) -> list[Any]:
    """The handlers of all routes, in the order of the OpenAPI document."""
    return [
        _limited(settings.max_payload_bytes, posts.post_event),
        _limited(BATCH_BYTES_MAX, posts.post_batch),
        history.device_events,
        history.device_gaps,
        search.search,
        history.device_metrics,
        history.device_summary,
        aggregates.aggregate,
        exports.export,
        registry.list_devices,
        registry.fleet_summary,
        registry.add_device,
        registry.import_devices,
        registry.one_device,
        registry.put_device,
        registry.forget_device,
        registry.reset_reused_ids,
        *registry.hidden_device("import"),
        *registry.hidden_device("summary"),
        registry.device_named_import,
        latest.latest,
        latest.device_latest,
        presence.device_presence,
        presence.presence_history,
        profiles.list_profiles,
        profiles.one_profile,
        profiles.put_profile,
        rules.add_rule,
        rules.list_rules,
        rules.one_rule,
        rules.put_rule,
        rules.delete_rule,
        backtests.backtest,
        incidents.list_incidents,
        incidents.one_incident,
        incidents.acknowledge,
        incidents.list_silences,
        incidents.add_silence,
        incidents.get_silence,
        incidents.delete_silence,
        channels.list_channels,
        channels.add_channel,
        channels.one_channel,
        channels.put_channel,
        channels.delete_channel,
        channels.send_test,
        rejected.list_rejected,
        rejected.rejected_summary,
        rejected.one_rejected,
        rejected.replay,
        feed.alert_stream,
        feed.presence_stream,
        live.live,
        credentials.list_keys,
        credentials.add_key,
        credentials.delete_key,
        credentials.list_device_credentials,
        credentials.add_credentials,
        credentials.rotate_credentials,
        credentials.revoke_credentials,
        sessions.begin_session,
        sessions.end_session,
        audit.list_audit,
        info.info,
        health.health,
        health.live,
        health.metrics,
        openapi_document,
        asyncapi.asyncapi,
        reference_assets(),
        *page_handlers(PageFiles.read()),
    ]


def create_status_app(
    settings: Settings,
    checks: Health,
    worker: Worker | None = None,
    authenticator: Authenticator | None = None,
) -> ASGIApp:
    """The small application of roles that have no API; `authenticator` if authentication is on."""
    return head_as_get(
        Litestar(
            route_handlers=[health.health, health.live, health.metrics],
            dependencies={
                "checks": Provide(lambda: checks, sync_to_thread=False),
                "settings": Provide(lambda: settings, sync_to_thread=False),
            },
            before_request=check_target,
            exception_handlers=EXCEPTION_HANDLERS,
            middleware=_guards(settings, authenticator),
            openapi_config=None,
            state=State({health.WORKER: worker}),
            logging_config=None,
        )
    )


def _middleware(settings: Settings, services: Services) -> list[Callable[[ASGIApp], ASGIApp]]:
    """Middleware, the outermost first."""
    return [counted(services.request_seconds), *_guards(settings, services.authenticator)]


def _guards(
    settings: Settings, authenticator: Authenticator | None
) -> list[Callable[[ASGIApp], ASGIApp]]:
    """Who may call: who shows a credential; without authentication, this machine and its own pages."""
    origins = browser_origins(
        settings.allowed_origins, refuse_others=authenticator is None, pages=PAGES
    )
    if authenticator is not None:
        return [origins, authorized(authenticator)]
    if settings.trusted_network:
        return [origins, unauthenticated]
    return [loopback_hosts_only, origins, unauthenticated]


def _limited(body_bytes_max: int, handler: Any) -> Router:
    return Router("/", route_handlers=[handler], request_max_body_size=body_bytes_max)


def _dependencies(services: Services) -> dict[str, Provide]:
    """Each is looked up for each request: tests exchange them under the same routes."""

    def provide(name: str) -> Provide:
        return Provide(lambda: getattr(services, name), sync_to_thread=False)

    return {field.name: provide(field.name) for field in fields(Services)}
