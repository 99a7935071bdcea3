"""`foldcast schemas`: what records look like, as JSON Schemas and an AsyncAPI document, and the API, as OpenAPI."""

import argparse
import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from worker.refusal import Refusal

if TYPE_CHECKING:
    from worker.settings.settings import Settings

EXAMPLE = "foldcast schemas contracts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's own arguments."""
    parser.add_argument("folder", type=Path, help="files of a name that is there are written over")


def main(given: argparse.Namespace, settings: "Settings") -> int:
    """Write the schemas into a folder, the topics named by the settings. Returns the exit code. Raises Refusal."""
    folder: Path = given.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in sorted(files("worker").joinpath("schemas").iterdir(), key=lambda file: file.name):
            text = file.read_text(encoding="utf-8")
            if file.name == "asyncapi.json":
                text = _addressed(text, settings)
            (folder / file.name).write_text(text, encoding="utf-8")
            print(folder / file.name)
    except OSError as error:
        raise Refusal(f"{folder} cannot be written ({error}): name another folder") from error
    return 0


def _addressed(text: str, settings: "Settings") -> str:
    """The AsyncAPI document with the settings' topics for addresses; an address is null where there is no topic."""
    document = json.loads(text)
    addresses = {
        "events": settings.kafka.input_topic,
        "forecasts": settings.kafka.output_topic,
        "rows": settings.output.rows_topic,
        "deadLetters": settings.kafka.dead_letter_topic,
    }
    for channel, address in addresses.items():
        document["channels"][channel]["address"] = address
    return json.dumps(document, indent=2) + "\n"
