"""`foldcast dead-letters`: records that were no events, listed, shown, or sent to the input once more."""

import argparse
import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.refusal import WrongUsage, printable

if TYPE_CHECKING:
    from worker.letters.reading import Chosen, Found
    from worker.settings.settings import Settings

EXAMPLE = "foldcast dead-letters resend --reason bad_time --since 2026-11-28T06:00:00Z"
QUIET_S = 2.0  # before a bar is drawn
SHOWN_CHARACTERS = 2000  # of a value as hex


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's own arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|show|resend")
    listing = actions.add_parser("list", help="how many there are by reason, and the newest")
    show = actions.add_parser("show", help="one: its reason, headers, and bytes as they came")
    resend = actions.add_parser("resend", help="send chosen ones to the input, each once, however often this is run")
    listing.add_argument("--limit", type=int, default=20, metavar="N", help="how many of the newest to list (20)")
    show.add_argument("letter", metavar="PARTITION:OFFSET", help="where it is in the dead letter topic")
    show.add_argument("--raw", action="store_true", help="write the record's bytes and nothing else")
    resend.add_argument(
        "letters", nargs="*", metavar="PARTITION:OFFSET", help="these; without any, all that filters let"
    )
    resend.add_argument("--all", action="store_true", help="every letter, where no filter is given")
    resend.add_argument("--yes", action="store_true", help="do not ask before")
    for action in (listing, resend):
        action.add_argument("--reason", metavar="REASON", help="only of this one, such as bad_time")
        action.add_argument("--since", type=_ms, metavar="TIME", help="only letters from then on (ISO 8601)")
        action.add_argument("--until", type=_ms, metavar="TIME", help="only letters before then")
        action.add_argument("--partition", type=int, metavar="P", help="only of this partition")
    for action in (listing, show, resend):
        action.add_argument("--json", action="store_true", help="print one object, for programs")
        action.add_argument("--config", type=Path, metavar="FILE", default=argparse.SUPPRESS, help="TOML, as above")


def main(given: argparse.Namespace, settings: "Settings") -> int:
    """List, show or send again. Returns the exit code. Raises Refusal, BrokerError."""
    if given.action == "list":
        return _list(given, settings)
    if given.action == "show":
        return _show(given, settings)
    return _resend(given, settings)


def _ms(text: str) -> int:
    """Milliseconds of a time; argparse turns ValueError into a sentence."""
    at = datetime.fromisoformat(text)
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


_ms.__name__ = "time"  # as argparse's sentence names it


def _place(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,9}):(\d{1,18})", text)
    if found is None:
        raise WrongUsage(f"a dead letter is named by partition and offset, as in 0:17, and not by {text!r}")
    return int(found[1]), int(found[2])


def _chosen(given: argparse.Namespace) -> "Chosen":
    from worker.letters.reading import Chosen

    places = frozenset(_place(text) for text in getattr(given, "letters", ()))
    return Chosen(given.reason, given.since, given.until, given.partition, places)


def _list(given: argparse.Namespace, settings: "Settings") -> int:
    from tqdm import tqdm

    from worker.letters.reading import facts_of, letters  # it loads the Kafka client

    if given.limit < 0:
        raise WrongUsage(f"--limit is {given.limit}; it must be 0 or more")
    topic = settings.kafka.dead_letter_topic
    with tqdm(desc=topic, unit=" letters", delay=QUIET_S, disable=None) as bar:
        found = letters(settings, _chosen(given), given.limit, bar.update)
    shown = [facts_of(letter, letter.place in found.resent) for letter in found.newest]
    if given.json:
        total = {"letters": len(found.places), "resent": _resent(found), "other_records": found.others}
        print(json.dumps({"topic": topic, **total, "reasons": _reasons(found), "newest": shown}, indent=2))
        return 0
    others = f"; {found.others:,} other records" if found.others else ""
    print(f"{topic}: {len(found.places):,} letters, {_resent(found):,} of them sent again{others}")
    for reason, facts in _reasons(found).items():
        where = ", ".join(f"{partition}: {number:,}" for partition, number in facts["partitions"].items())
        times = f"{_at(facts['first_ms'])} to {_at(facts['last_ms'])}"
        print(f"  {printable(reason)}: {facts['letters']:,}, {times}, by partition {where}")
    for facts in shown:
        print(f"{facts['letter']}  {_at(facts['time_ms'])}  {_words(facts)}")
    return 0


def _resent(found: "Found") -> int:
    return sum(place in found.resent for place in found.places)


def _reasons(found: "Found") -> dict[str, dict[str, Any]]:
    return {
        reason: {
            "letters": sum(number.values()),
            "first_ms": found.first_ms[reason],
            "last_ms": found.last_ms[reason],
            "partitions": {str(partition): number[partition] for partition in sorted(number)},
        }
        for reason, number in sorted(found.reasons.items())
    }


def _words(facts: dict[str, Any]) -> str:
    notes = ["sent again"] if facts["resent"] else []
    notes += [f"came back after it was sent again, as {facts['resent_from']} was"] if facts["resent_from"] else []
    words = f"{facts['reason']}  {facts['record']}  {facts['message']}"
    return printable("  ".join([words, *(f"({note})" for note in notes)]))


def _at(time_ms: int) -> str:
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError):  # whoever wrote it had a clock like that
        return f"{time_ms} ms"


def _show(given: argparse.Namespace, settings: "Settings") -> int:
    from worker.broker.restore import LogReader
    from worker.letters.reading import facts_of, letter_at, original_of
    from worker.refusal import Refusal

    letter, resent = letter_at(settings, _place(given.letter))
    logs, why = LogReader(settings.kafka), None
    try:
        key, value, headers = original_of(settings, logs, letter)
    except Refusal as refusal:
        if given.raw:
            raise
        (key, value, headers), why = letter.original(), str(refusal)
    finally:
        logs.close()
    if given.raw:
        sys.stdout.buffer.write(value or b"")
        return 0
    own = {name: _text(part or b"") for name, part in headers}
    facts = facts_of(letter, resent) | {"key": _text(key), "headers": own, "value": _text(value), "lost": why}
    if given.json:
        print(json.dumps(facts, indent=2))
        return 0
    print(f"{facts['letter']}  {_at(facts['time_ms'])}  {_words(facts)}")
    for name, text in {"key": facts["key"], **{f"header {name}": text for name, text in own.items()}}.items():
        print(printable(f"  {name}: {text}"))
    print(printable(f"  {why}") if why else f"  {len(value or b''):,} bytes: {printable(str(facts['value']))}")
    return 0


def _text(data: bytes | None) -> str | None:
    """Bytes as text where people can read them, else as hex; the start of what is long."""
    if data is None:
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    readable = text.isprintable() or all(c.isprintable() or c in "\r\n\t" for c in text)
    whole = text if (text or not data) and readable else f"hex {data.hex()}"
    return whole if len(whole) <= SHOWN_CHARACTERS else f"{whole[:SHOWN_CHARACTERS]}... (--raw writes all)"


def _resend(given: argparse.Namespace, settings: "Settings") -> int:
    from tqdm import tqdm

    from worker.letters.reading import Chosen, letters
    from worker.letters.resending import resend

    chosen = _chosen(given)
    if chosen == Chosen() and not given.all:
        raise WrongUsage("dead-letters resend needs what to send: name letters, give a filter, or say --all")
    if not given.yes:
        found = letters(settings, chosen, 0)
        due = len(found.places) - _resent(found)
        print(f"This sends the records of {due:,} dead letters to {settings.kafka.input_topic}.", file=sys.stderr)
        if due and not _agreed():
            return 1
    with tqdm(desc="sent again", unit=" letters", delay=QUIET_S, disable=None) as bar:
        for done in resend(settings, chosen):
            bar.update(done.sent - bar.n)
    missing = [f"{partition}:{offset}" for partition, offset in sorted(done.missing)]
    code = 1 if done.gone or missing else 0
    if given.json:
        counts = {"sent": done.sent, "before": done.before, "foreign": done.foreign}
        print(json.dumps(counts | {"gone": done.gone, "missing": missing}, indent=2))
        return code
    print(f"{done.sent:,} sent, {done.before:,} had been sent before")
    if done.foreign:
        print(
            f"{done.foreign:,} left alone: they are of another group than {settings.kafka.group_id}, or their records "
            f"are not of {settings.kafka.input_topic} as it is now (another topic, or one deleted and made anew)"
        )
    for why in [*done.gone, *(f"there is no dead letter at {place}, or a filter leaves it out" for place in missing)]:
        print(f"NO  {printable(why)}")
    return code


def _agreed() -> bool:
    print("Type yes to go on: ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer:  # nobody to ask
        print("foldcast: nobody answers here: say --yes", file=sys.stderr)
    return answer.strip() == "yes"
