"""What fuzzing has found worth keeping goes through the same targets as there, without a fuzzer."""

import pytest

from tests.security.fuzz import CORPUS, LARGEST_BYTES, TARGETS, kept, target_of

MOST_FILES, MOST_BYTES = 200, 500_000


@pytest.mark.parametrize("name", TARGETS)
def test_each_input_is_taken_or_refused_cleanly(name: str) -> None:
    target = target_of(name)
    for seed in target.seeds():
        target.one(seed)
    for file in kept(name):
        try:
            target.one(file.read_bytes())
        except BaseException as error:
            error.add_note(f"from {file.relative_to(CORPUS)}")
            raise


def test_each_target_has_inputs_and_they_stay_few_and_small() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)
    files = [file for name in TARGETS for file in kept(name)]
    assert all(kept(name) for name in TARGETS)
    sizes = [file.stat().st_size for file in files]
    assert len(sizes) <= MOST_FILES
    assert sum(sizes) <= MOST_BYTES
    assert max(sizes) <= LARGEST_BYTES
