"""Rows come, go and are used again; pages are all of them."""

import numpy as np
import pytest

from pipeline.method import Method
from pipeline.records import layout
from pipeline.table import PAGE_BYTES, Table

METHOD = Method(horizons=(1, 2), hidden_size=4)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Table:
    monkeypatch.setattr("pipeline.table.PAGE_BYTES", 8 * layout(METHOD).itemsize)
    return Table(METHOD)


def fill(table: Table, n: int) -> None:
    for i in range(n):
        assert table.add(f"s{i}") == i
        table.changing(np.array([i]))["value"][i] = i


def test_growing_keeps_rows_and_names(table: Table) -> None:
    fill(table, 1000)
    assert table.rows["value"][:1000].tolist() == list(range(1000))
    assert [table.index[f"s{i}"] for i in range(1000)] == list(range(1000))
    assert len(table.rows) < 2500


def test_free_rows_are_used_again_lowest_first(table: Table) -> None:
    fill(table, 20)
    for row in (11, 3, 17):
        table.remove(row)
    assert [table.names[r] for r in (3, 11, 17)] == [None] * 3
    assert "s3" not in table.index
    handed_out = []
    for name in "abcd":
        page = table.next_page()
        handed_out.append(table.add(name))
        assert page == table.page_of(handed_out[-1])
    assert handed_out == [3, 11, 17, 20]


def test_a_reused_row_is_a_new_rows_bits(table: Table) -> None:
    fill(table, 3)
    blank = Table(METHOD)
    row = blank.add("x")
    expected = blank.rows[row].tobytes()
    rows = table.changing(np.array([1]))
    for field in rows.dtype.names or ():
        rows[field][1] = 9
    table.remove(1)
    assert table.rows[1].tobytes() == expected, "a free row is blank too, so a page does not depend on who was there"
    table.changing(np.array([1]))["value"][1] = 5
    table.add("again")
    assert table.rows[1].tobytes() == expected


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 65])
def test_pages_cover_every_row_once(table: Table, n: int) -> None:
    assert table.page_rows == 8
    fill(table, n)
    covered = [r for page in range(table.pages) for r in range(n)[table.page_slice(page)]]
    assert covered == list(range(n))
    assert table.dirty == set(range(table.pages))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("horizons", [(1,), (1, 3, 6, 12, 24)])
def test_a_page_is_a_power_of_two_rows_under_its_limit(cell, horizons) -> None:  # type: ignore[no-untyped-def]
    table = Table(Method(cell=cell, horizons=horizons))
    rows, limit = table.page_rows, PAGE_BYTES
    assert rows & (rows - 1) == 0
    assert rows * table.row_bytes <= limit < 2 * rows * table.row_bytes
    kinds = [(kind.base.itemsize, offset) for kind, offset in table.rows.dtype.fields.values()]
    assert all(offset % size == 0 for size, offset in kinds)
    assert table.row_bytes % 8 == 0


def test_pages_put_back_are_the_table(table: Table) -> None:
    fill(table, 21)
    table.remove(4)
    table.remove(20)
    other = Table(METHOD)
    for page in range(table.pages):
        part = table.page_slice(page)
        other.put_page(page, table.names[part], table.rows[part].tobytes())
    assert other.rows[:21].tobytes() == table.rows[:21].tobytes()
    assert (other.names, other.index) == (table.names, table.index)
    assert [other.add(name) for name in "abc"] == [table.add(name) for name in "abc"] == [4, 20, 21]


def test_rows_cannot_be_changed_unless_their_pages_are_marked(table: Table) -> None:
    """Whatever it is that changes: a batch's rows, a new one, a removal, a new beginning."""
    fill(table, 20)
    told: list[set[int]] = []
    before, names = table.rows.tobytes(), list(table.names)

    def note(pages: set[int], _read: object) -> None:
        assert (table.rows.tobytes(), table.names) == (before, names), "the snapshot copies pages as they were"
        told.append(pages)

    table.before_change = note
    table.dirty.clear()
    for change in (lambda: table.rows["value"].fill(1), lambda: table.rows.__setitem__(0, table.rows[1])):
        with pytest.raises(ValueError, match="read-only"):
            change()
    assert (table.rows.tobytes(), table.dirty, told) == (before, set(), [])
    assert table.changing(np.array([3, -1, 17])) is table.changing(np.array([], np.int64))
    assert table.dirty == {0, 2}
    table.begin_anew(9)
    before = table.rows.tobytes()
    table.remove(5)
    before, names = table.rows.tobytes(), list(table.names)
    table.add("another")
    assert told == [{0, 2}, set(), {1}, {0}, {0}]
    assert table.dirty == {0, 1, 2}


def test_pages_that_do_not_follow_or_fit_are_refused(table: Table) -> None:
    fill(table, 9)
    first, second = (table.rows[table.page_slice(p)].tobytes() for p in (0, 1))
    other = Table(METHOD)
    for page, names, data in (
        (1, ["s8"], second),
        (0, ["s0"], first),
        (0, [f"s{i}" for i in range(8)], first[:-1]),
        (0, [f"s{i}" for i in range(8)], first[: -table.row_bytes]),
    ):
        with pytest.raises(ValueError, match=r"page|multiple"):
            other.put_page(page, list(names), data)
    assert (len(other.names), other.index) == (0, {})
    other.put_page(0, [f"s{i}" for i in range(8)], first)
    with pytest.raises(ValueError, match="does not follow"):
        other.put_page(0, [f"s{i}" for i in range(8)], first)


def test_no_row_twice(table: Table) -> None:
    fill(table, 1)
    with pytest.raises(AssertionError, match="s0 has a row"):
        table.add("s0")
    table.remove(0)
    with pytest.raises(AssertionError, match="row 0 is free"):
        table.remove(0)
    assert np.isfinite(table.rows["quantile"][0]).all()
