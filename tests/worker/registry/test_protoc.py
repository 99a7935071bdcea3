"""Protobuf's compiler: which of its failures are the schema's."""

from pathlib import Path

import pytest

from pipeline.decoding.schemas import MAIN, SchemasAway
from worker.registry.protoc import compiled

TEXT = 'syntax = "proto3"; message A { double value = 1; }'


@pytest.mark.parametrize(
    "script",
    [
        "kill -9 $$",
        f"echo '{MAIN}:1:1: warning: killed later' >&2; kill -9 $$",
        "echo out: No space left on device >&2; exit 1",
        'for each; do case "$each" in --descriptor_set_out=*) : > "${each#*=}";; esac; done',
    ],
)
def test_a_passing_failure_is_not_the_schemas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    other = tmp_path / "python"
    other.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    other.chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setattr("sys.executable", str(other))
        with pytest.raises(SchemasAway):
            compiled(MAIN, TEXT, {})
    assert compiled(MAIN, TEXT, {})


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("message {", "a.proto"),
        ('syntax = "proto3"; import "b.proto";', "a.proto"),
        ('syntax = "proto3"; import "a.proto";', "b.proto"),
        ('syntax = "proto3"; import "a.proto";', "a.proto c.proto"),
    ],
)
def test_what_is_wrong_in_a_schema_is_the_schemas(text: str, names: str) -> None:
    a = compiled("a.proto", TEXT, {})
    b = compiled("b.proto", 'syntax = "proto3"; import "a.proto"; message B { A value = 1; }', {"a.proto": a})
    files = {"a.proto": a, "b.proto": b, "c.proto": a}
    with pytest.raises(ValueError, match=r"^protoc: "):
        compiled(MAIN, text, {name: files[name] for name in names.split()})
