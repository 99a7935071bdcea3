"""README's way to a worker on one's own Kafka, and the runbook's look at the dead letters, as they stand there."""

import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.rigs.documented import PAGES, WHAT_TO_INSTALL, can_run_tools, command, environment, programs, run
from worker import topics
from worker.broker.produce import FastProducer
from worker.settings.sources import load

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]


def settings_file(folder: Path, bootstrap: str, unique: str) -> Path:
    """README's settings file for this Kafka, with topics and a group of the test's own."""
    [shown] = re.findall(r"```toml\n(\[kafka\]\n.*?)```", PAGES["README.md"], re.DOTALL)
    names = {"input_topic": "in", "output_topic": "out", "dead_letter_topic": "dead", "changelog_topic": "log"}
    own = [f'{name} = "{unique}-{end}"' for name, end in names.items()]
    path = folder / "my.toml"
    path.write_text("\n".join([shown.replace("kafka:9092", bootstrap), *own, f'group_id = "{unique}"\n']))
    return path


def test_a_worker_is_started_and_its_dead_letters_are_read_as_the_pages_say(
    bootstrap: str, unique: str, tmp_path: Path
) -> None:
    if not can_run_tools():
        pytest.skip(WHAT_TO_INSTALL)
    found, settings = programs(tmp_path / "bin", kafka=True), load(settings_file(tmp_path, bootstrap, unique), {})
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
            look = command("docs/runbook.md", "kafka-console-consumer.sh").replace("kafka:9092", bootstrap)
            read = run(look.replace("foldcast-dead-letters", f"{unique}-dead"), tmp_path, found)
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.stdout.read()
    assert worker.returncode == 0
    [letter] = [line for line in read.splitlines() if line.endswith("no event at all")]
    assert "foldcast-error-reason:undecodable" in letter
    assert "\tone\t" in letter
