"""The plan of a worker whose messages need a registry."""

from dataclasses import replace

from pipeline.decoding.schemas import JSON_FORMAT
from pipeline.framed import FramedDecoder
from worker.plan import Plan, format_of
from worker.registry.client import RegistryClient
from worker.registry.readers import reader_of
from worker.settings.settings import Settings


def with_registry(plan: Plan, settings: Settings, alone: bool = False) -> tuple[Plan, RegistryClient | None]:
    """Return the plan with a decoder of these messages, and the client; as it is for plain JSON. Raises Refusal.

    `alone` is the client's.
    """
    form = settings.events.format
    if form == JSON_FORMAT:
        return plan, None
    reader = reader_of(form)
    client = RegistryClient(settings.registry, form, alone)
    return replace(plan, decoder=FramedDecoder(format_of(settings), client, reader)), client
