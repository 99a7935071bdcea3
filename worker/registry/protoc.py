"""Protobuf's compiler, in a process of its own, for registries that hand out schemas as text only."""

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pipeline.decoding.schemas import SchemasAway

LIMIT_S = 20.0
FIX = "give the worker memory, and room for temporary files (TMPDIR)"


def compiled(name: str, text: str, others: Mapping[str, bytes]) -> bytes:
    """Return a file as a serialized FileDescriptorProto. Raises ValueError where it is none, SchemasAway."""
    from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet  # of an extra
    from google.protobuf.message import DecodeError

    try:
        known = FileDescriptorSet(file=[FileDescriptorProto.FromString(data) for data in others.values()])
    except DecodeError as error:
        raise ValueError(f"what {name} imports is no schema: {error}") from None
    for file, other in zip(known.file, others, strict=True):
        file.name = other
    try:
        with tempfile.TemporaryDirectory() as folder:
            before, source = Path(folder, "before"), Path(folder, "in", name)
            if name.startswith("-") or not source.resolve().is_relative_to(Path(folder, "in").resolve()):
                raise ValueError(f"{name!r} is no name of a file")
            source.parent.mkdir(parents=True)
            source.write_text(text, encoding="utf-8")
            before.write_bytes(known.SerializeToString())
            places = [f"--proto_path={Path(folder, 'in')}", f"--descriptor_set_out={Path(folder, 'out')}"]
            places += [f"--descriptor_set_in={before}"] if others else []
            command = [sys.executable, "-m", "grpc_tools.protoc", *places, name]
            done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
            if done.returncode:
                raise _failure(name, done.returncode, done.stderr.replace(f"{Path(folder, 'in')}/", ""), [*others])
            made: bytes = FileDescriptorSet.FromString(Path(folder, "out").read_bytes()).file[0].SerializeToString()
            return made
    except subprocess.TimeoutExpired:
        raise SchemasAway(f"protoc has not compiled {name} within {LIMIT_S:g} s", "give the worker more CPU") from None
    except (OSError, DecodeError, IndexError) as error:
        raise SchemasAway(f"a schema cannot be compiled: {error}", FIX) from None


def _failure(name: str, status: int, told: str, others: list[str]) -> ValueError | SchemasAway:
    """Return what a failure of protoc means: the schema is at fault where protoc names a place in it, or a conflict."""
    places = tuple(f"{each}:" for each in (name, *others))  # other lines are its log
    lines = [line for line in told.splitlines() if line.startswith(places) and ": warning: " not in line]
    lines += [line.rpartition("] ")[2] for line in told.splitlines() if " conflicts with the existing " in line]
    if status > 0 and lines:
        return ValueError(f"protoc: {lines[0]}")
    return SchemasAway(f"protoc could not compile {name}: status {status} {told[-200:]}", FIX)
