"""What makes a reader of a schema, by `events.format`; the packages for it are an extra."""

from collections.abc import Callable
from importlib import import_module

from pipeline.decoding.schemas import Reader, Schema
from worker.refusal import Refusal


def reader_of(form: str) -> Callable[[Schema], Reader]:
    """Return it. Raises Refusal without the packages."""
    try:
        if form == "protobuf":
            import_module("grpc_tools")
        made: Callable[[Schema], Reader] = import_module(f"pipeline.decoding.{form}").reader
    except ImportError as error:
        fix = "pip install 'foldcast[registry]'"
        raise Refusal(f"events.format is {form}, which needs {error.name}, and it is not installed: {fix}") from error
    return made
