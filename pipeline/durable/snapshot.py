"""A snapshot under way: the shard as it was at one offset, written in pieces while events go on.

Pages that changed since the last snapshot go out in order, so many at a time, each as it was at the offset: a page
that is about to change before it was sent is copied first. The marker goes last and makes the image valid.

A snapshot holds no table: the table calls it before a page changes, and two that hold each other would outlive a
dropped shard until Python looks for such.
"""

from collections.abc import Callable
from zlib import crc32

import msgspec

from pipeline.durable.image import MARKER_KEY, Marker, Page, encode_marker, encode_page, other, page_key

ReadPage = Callable[[int], tuple[list[str | None], bytes]]  # names and rows of a page as it is now


class Snapshot:
    """The pages still to send and the copies of those that have changed since."""

    def __init__(self, marker: Marker, dirty: set[int]) -> None:
        """`marker` has the letters and page offsets in force before."""
        self.pending = sorted(dirty, reverse=True)  # pages, the next one last
        self._copies: dict[int, Page] = {}
        letters, offsets = list(marker.letters), list(marker.page_offsets)
        for page in self.pending:
            letters[page] = other(letters[page])
            offsets[page] = marker.offset
        self.marker = msgspec.structs.replace(
            marker, letters="".join(letters), page_offsets=offsets, page_checksums=list(marker.page_checksums)
        )

    def about_to_change(self, pages: set[int], read: ReadPage) -> None:
        """Keep these pages as they are now, where they are still to be sent."""
        for page in pages.intersection(self.pending) - self._copies.keys():
            self._copies[page] = self._page(page, read)

    def pieces(self, pages: int, read: ReadPage) -> tuple[list[tuple[bytes, bytes]], bool]:
        """The next records to write, at most so many pages; True with them when the marker is the last."""
        out: list[tuple[bytes, bytes]] = []
        for _ in range(min(pages, len(self.pending))):
            number = self.pending.pop()
            page = self._copies.pop(number, None) or self._page(number, read)
            data = encode_page(page)
            self.marker.page_checksums[number] = crc32(data)
            out.append((page_key(number, self.marker.letters[number]), data))
        if self.pending:
            return out, False
        out.append((MARKER_KEY, encode_marker(self.marker)))
        return out, True

    def _page(self, number: int, read: ReadPage) -> Page:
        return Page(number, self.marker.offset, self.marker.method, *read(number))
