"""`python -m tests.security.fuzz TARGET FOLDER [options of libFuzzer]`: fuzz one target; new inputs go into FOLDER.

Without arguments it names the targets.
"""

import logging
import sys
from pathlib import Path

from tests.security.fuzz import CORPUS, LARGEST_BYTES, LONGEST_S, MOST_MB, TARGETS, target_of

PACKAGES = ("pipeline", "worker", "csv", "gzip", "tomllib", "safetensors")  # what guides the fuzzer


def _with_kernels() -> list[str]:
    """Modules of functions that numba compiles, which it does not do with those that are instrumented."""
    root = Path(__file__).parents[3]
    files = [file for file in root.glob("pipeline/**/*.py") if "pipeline.compiled" in file.read_text()]
    return [".".join(file.relative_to(root).with_suffix("").parts) for file in files]


def main() -> None:
    """Fuzz until an option ends it, or something is found: FOLDER/find-... (a hang, memory) or FOLDER/find."""
    if len(sys.argv) == 1:
        print(*TARGETS)
        return
    import atheris  # here, so that the names can be asked for without it

    name, folder, *options = sys.argv[1:]
    with atheris.instrument_imports(include=PACKAGES, exclude=_with_kernels()):
        target = target_of(name)
    logging.disable()  # a refusal in the log, a thousand times a second
    inputs, find = Path(folder) / "inputs", Path(folder) / "find"
    inputs.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (inputs / f"seed-{number}").write_bytes(seed)

    def one(data: bytes) -> None:
        try:
            target.one(data)
        except BaseException:
            find.write_bytes(data)  # libFuzzer may hang while it ends a process that has threads
            raise

    limits = [f"-timeout={LONGEST_S}", f"-rss_limit_mb={MOST_MB}", f"-max_len={LARGEST_BYTES}"]
    folders = [str(inputs), str(CORPUS / name)]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={find}-", *options, *folders], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
