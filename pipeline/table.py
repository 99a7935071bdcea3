"""A shard's streams as one structured array: a row is a record, a page is a run of rows, memory is one number.

What a record is stands in records.py. Rows of removed streams are used again, lowest first; a new row and a reused one
are the same bits. Rows are read freely and changed through `changing` alone: so no page that changed is forgotten by
the next snapshot, or sent by the one under way as it never was. (NumPy refuses any other change; numba 0.68 lets a
kernel write to the records of a read-only array, so kernels get their rows from `changing` too.)
"""

import hashlib
import heapq
from collections.abc import Callable

import numpy as np

from pipeline.arrays import Ints, Rows
from pipeline.learning import watchdog
from pipeline.method import Method
from pipeline.parts import admission
from pipeline.records import blank, layout, parts_of

PAGE_BYTES = 256 * 1024

Copy = tuple[list[str | None], bytes]  # names and rows


class Table:
    """Rows, their names, and which pages changed since the last snapshot."""

    def __init__(self, method: Method) -> None:
        self._blank = blank(method)
        kept = [*admission.fields(method), *watchdog.fields(method)]
        self._kept = [name for name, *_ in kept if name != "count"]
        self._indices = {name: below for part in parts_of(method) for name, below in part.indices(method).items()}
        self.page_rows: int = 1 << max(0, (PAGE_BYTES // self._blank.itemsize).bit_length() - 1)
        self._rows: Rows = np.empty(0, layout(method))
        self.rows = _read_only(self._rows)
        self.names: list[str | None] = []  # by row; None: free
        self.index: dict[str, int] = {}
        self._free: list[int] = []  # heap
        self.dirty: set[int] = set()  # pages
        # Pages and `page`, with which the snapshot under way copies them; it is handed over, not kept there
        self.before_change: Callable[[set[int], Callable[[int], Copy]], object] | None = None

    def changing(self, rows: Ints) -> Rows:
        """The table's rows to write to, of which these will change; -1 stands for none. Any other is not to change."""
        self._about_to_change(set((rows // self.page_rows).tolist()) - {-1})
        return self._rows

    def _about_to_change(self, pages: set[int]) -> None:
        if self.before_change is not None:
            self.before_change(pages, self.page)
        self.dirty |= pages

    @property
    def row_bytes(self) -> int:
        """State of one stream, its name apart."""
        return int(self._blank.itemsize)

    @property
    def pages(self) -> int:
        """Pages that hold the rows handed out so far."""
        return -(-len(self.names) // self.page_rows)

    def page_of(self, row: int) -> int:
        """The page a row is in."""
        return row // self.page_rows

    def page_slice(self, page: int) -> slice:
        """The rows of a page that were ever handed out."""
        return slice(page * self.page_rows, min((page + 1) * self.page_rows, len(self.names)))

    def page(self, page: int) -> Copy:
        """A copy of a page as it is now."""
        rows = self.page_slice(page)
        return self.names[rows], self.rows[rows].tobytes()

    def next_page(self) -> int:
        """The page of the row that `add` will hand out."""
        return self.page_of(self._free[0] if self._free else len(self.names))

    def add(self, name: str) -> int:
        """A blank row for a new stream."""
        assert name not in self.index, f"{name} has a row"
        self._about_to_change({self.next_page()})
        if self._free:
            row = heapq.heappop(self._free)
            self.names[row] = name
        else:
            row = len(self.names)
            self.names.append(name)
            self._grow(row + 1)
        self._rows[row] = self._blank
        self.index[name] = row
        return row

    def remove(self, row: int) -> None:
        """Forget a stream."""
        name = self.names[row]
        assert name is not None, f"row {row} is free"
        self._about_to_change({self.page_of(row)})
        del self.index[name]
        self.names[row] = None
        self._rows[row] = self._blank
        heapq.heappush(self._free, row)

    def begin_anew(self, row: int) -> None:
        """Forget all of a stream but when it spoke and what it counts for in the watchdog's eyes."""
        rows = self.changing(np.array([row]))
        kept = [(name, rows[name][row].copy()) for name in self._kept]
        rows[row] = self._blank
        for name, value in kept:
            rows[name][row] = value
        rows["begun_anew"][row] = 1

    def make_room(self, pages: int) -> None:
        """Have room for so many pages that are to be put: growing with each of them copies most rows several times."""
        self._grow(pages * self.page_rows)

    def put_page(self, page: int, names: list[str | None], data: bytes) -> None:
        """Take a page from an image; pages come in order, 0 first. Raises ValueError on a size that does not fit."""
        rows = np.frombuffer(data, self.rows.dtype)
        if page != self.pages or len(self.names) % self.page_rows or len(rows) != len(names):
            raise ValueError(f"page {page} does not follow on {len(self.names)} rows or is damaged")
        for field, bound in self._indices.items():
            if not ((rows[field] >= 0) & (rows[field] < bound)).all():
                raise ValueError(f"page {page} is damaged: the field {field} of a row is not below {bound}")
        low = len(self.names)
        self.names.extend(names)
        self._grow(len(self.names))
        self._rows[low : low + len(rows)] = rows
        for row, name in enumerate(names, low):
            if name is None:
                heapq.heappush(self._free, row)
            elif self.index.setdefault(name, row) != row:
                raise ValueError(f"page {page} is damaged: {name!r} has a row already")

    def digest(self) -> str:
        """Names all rows and their names, to the bit."""
        h = hashlib.blake2b(repr(self.names).encode(), digest_size=16)
        h.update(self.rows[: len(self.names)].tobytes())
        return h.hexdigest()

    def _grow(self, rows: int) -> None:
        if rows > len(self.rows):
            bigger = np.zeros(max(64, rows, 2 * len(self.rows)), self.rows.dtype)
            bigger[: len(self.rows)] = self.rows
            self._rows, self.rows = bigger, _read_only(bigger)


def _read_only(rows: Rows) -> Rows:
    view = rows.view()
    view.flags.writeable = False
    return view
