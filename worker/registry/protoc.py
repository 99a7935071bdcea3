"""Protobuf's compiler, in a process of its own, for registries that hand out schemas as text only."""

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pipeline.decoding.schemas import SchemasAway

LIMIT_S = 20.0


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
                told = done.stderr.replace(f"{Path(folder, 'in')}/", "")
                lines = [line for line in told.splitlines() if line.startswith(f"{name}:")]  # others are its log
                raise ValueError(f"protoc: {lines[0] if lines else told[-200:]}")
            made: bytes = FileDescriptorSet.FromString(Path(folder, "out").read_bytes()).file[0].SerializeToString()
            return made
    except subprocess.TimeoutExpired:
        raise SchemasAway(f"protoc has not compiled {name} within {LIMIT_S:g} s", "give the worker more CPU") from None
    except OSError as error:
        fix = "give the worker a folder for temporary files (TMPDIR)"
        raise SchemasAway(f"a schema cannot be compiled: {error}", fix) from None
