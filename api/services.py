"""The services that handlers use, wired together in one place; tests use it, too."""

from dataclasses import dataclass

from prometheus_client import Histogram

from api.aggregate.completeness import CompletenessStore
from api.aggregate.store import AggregateStore
from api.alerts.backtest import BacktestStore
from api.alerts.channels import ChannelStore
from api.alerts.incidents import IncidentStore
from api.alerts.rules import RuleStore
from api.alerts.silences import SilenceStore
from api.auth.authenticator import Authenticator
from api.export.store import ExportStore
from api.feed import FeedReader
from api.http.rate_limit import RateLimiter
from api.imports.store import ImportStore
from api.ingest.door import HttpDoor
from api.ingest.replay import ReplayRunner
from api.latest.live import LatestReader
from api.latest.store import LatestStore
from api.serve.workers import Worker
from api.store.audit import AuditStore
from api.store.credentials import CredentialStore
from api.store.database import Database
from api.store.dead_letters import DeadLetterStore
from api.store.devices import DeviceStore
from api.store.events import EventStore
from api.store.registry import RegistryStore
from ingestor.decode.acceptance import AcceptLimits
from ingestor.pipeline import Pipeline
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from schema.database import Pool


@dataclass(frozen=True, slots=True)
class Services:
    """The services that handlers use; each is injected by its name."""

    events: EventStore
    devices: DeviceStore
    latest_values: LatestStore
    latest_events: LatestReader
    dead_letters: DeadLetterStore
    registry: RegistryStore
    imports: ImportStore
    rules: RuleStore
    incidents: IncidentStore
    silences: SilenceStore
    backtests: BacktestStore
    channels: ChannelStore
    aggregates: AggregateStore
    completeness: CompletenessStore
    door: HttpDoor
    feed: FeedReader
    replays: ReplayRunner
    exports: ExportStore
    credentials: CredentialStore
    audit: AuditStore
    checks: Health
    request_seconds: Histogram
    settings: Settings
    authenticator: Authenticator | None = None  # None: authentication is off.
    worker: Worker | None = None  # Set if several processes share one port.


def build_services(
    settings: Settings,
    *,
    name: str,
    pool: Pool,
    lookup_pool: Pool,
    export_pool: Pool,
    pipeline: Pipeline,
    health: Health,
    metrics: Metrics,
    worker: Worker | None = None,
) -> Services:
    """The services of one process; `name` appears in pg_stat_activity.

    The caller runs pipeline, feed and latest_events.
    """
    limits = AcceptLimits.of(settings)
    database = Database(pool, lookup_pool)
    limiter = RateLimiter(settings.rate_limit_requests, settings.rate_limit_window_seconds)
    authenticator = Authenticator() if settings.authenticated else None
    return Services(
        events=EventStore(database),
        devices=DeviceStore(database, settings.default_profile),
        latest_values=LatestStore(database),
        latest_events=LatestReader(database),
        dead_letters=DeadLetterStore(database),
        registry=RegistryStore(database, settings.default_profile),
        imports=ImportStore(database, settings.default_profile),
        rules=RuleStore(database),
        incidents=IncidentStore(database),
        silences=SilenceStore(database),
        backtests=BacktestStore(database, settings.default_profile),
        channels=ChannelStore(database, private_addresses=settings.notify_private_addresses),
        aggregates=AggregateStore(database),
        completeness=CompletenessStore(database),
        door=HttpDoor(pipeline, limiter, limits),
        feed=FeedReader(
            settings.dsn,
            pool,
            f"{name} feed",
            metrics.streams,
            streams_max=settings.streams_max,
        ),
        replays=ReplayRunner(settings.dsn, f"{name} replay", pipeline, limits),
        exports=ExportStore(export_pool),
        credentials=CredentialStore(
            database, None if authenticator is None else authenticator.keys, settings.instance
        ),
        audit=AuditStore(database),
        settings=settings,
        authenticator=authenticator,
        checks=health,
        request_seconds=metrics.request_seconds,
        worker=worker,
    )
