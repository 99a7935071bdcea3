"""README's way to a worker on one's own Kafka, and the runbook's look at the dead letters, as they stand there."""

import signal
import subprocess
from pathlib import Path

import pytest

from tests.rigs.documented import PAGES, blocks, command, environment, programs, run
from worker import topics
from worker.broker.produce import FastProducer
from worker.settings.sources import load

pytestmark = pytest.mark.kafka


def settings_file(folder: Path, bootstrap: str, unique: str) -> Path:
    """README's settings file for this Kafka, with topics and a group of the test's own."""
    [shown] = [block for block in blocks(PAGES["README.md"], "toml") if block.startswith("[kafka]\n")]
    names = {"input_topic": "in", "output_topic": "out", "dead_letter_topic": "dead", "changelog_topic": "log"}
    own = [f'{name} = "{unique}-{end}"' for name, end in names.items()]
    path = folder / "my.toml"
    path.write_text("\n".join([shown.replace("kafka:9092", bootstrap), *own, f'group_id = "{unique}"\n']))
    return path


def test_a_worker_is_started_and_its_dead_letters_are_read_as_the_pages_say(
    bootstrap: str, unique: str, tmp_path: Path
) -> None:
    found, settings = programs(tmp_path / "bin"), load(settings_file(tmp_path, bootstrap, unique), {})
    create = command("README.md", "foldcast topics create").replace("--replication 3", "--replication 1")  # one broker
    run(create, tmp_path, found)
    assert "NO" not in run(command("README.md", "foldcast check"), tmp_path, found)
    with FastProducer(settings.kafka) as producer:
        producer.send(topics.names_of(settings).input, 0, b"one", b"no event at all")
        producer.flush()
    start = ["bash", "-c", f"exec {command('README.md', 'foldcast run')}"]
    given = {**environment(found), "FOLDCAST_HTTP__PORT": "0", "FOLDCAST_HTTP__HOST": "127.0.0.1"}
    with subprocess.Popen(start, cwd=tmp_path, env=given, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        try:
            assert any(" dead letter reason=undecodable " in line for line in worker.stdout), "it ended before"
            listed, shown = (
                run(f"FOLDCAST_CONFIG=my.toml {line}", tmp_path, found)
                for line in (
                    command("docs/runbook.md", "foldcast dead-letters list"),
                    command("docs/runbook.md", "foldcast dead-letters show").replace("0:1703", "0:0"),
                )
            )
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.stdout.read()
    assert worker.returncode == 0
    assert "undecodable" in listed
    assert "undecodable" in shown
    assert "no event at all" in shown
