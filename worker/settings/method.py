"""The method that settings describe: what is forecast and how."""

from pipeline.method import Method
from worker.settings.settings import Settings


def method_of(settings: Settings) -> Method:
    """Return the method: which horizons are forecast, and how."""
    model, events, ttl_s = settings.model, settings.events, settings.worker.stream_ttl_s
    return Method(
        horizons=model.horizons,
        quantiles=model.quantiles,
        cell=model.cell,
        hidden_size=model.hidden_size,
        layers=model.layers,
        profile=model.profile,
        season=model.season,
        season_slots=model.season_slots,
        floor=model.floor,
        weekly=model.weekly,
        covariates=events.covariates,
        transform=events.transform,
        same_time=events.same_time,
        max_gap=events.max_gap,
        stream_ttl_ms=None if ttl_s is None else ttl_s * 1000,
        window=settings.fine_tune.window,
    )
