"""Why the state of a partition cannot be gone on with, in sentences with the way out."""

from pipeline.durable.image import OtherSettingsError


def other_image(partition: int, why: Exception) -> str:
    """Return the refusal of an image that is of other settings, of another version, or damaged."""
    if isinstance(why, OtherSettingsError):
        return (
            f"the changelog of partition {partition} does not fit these settings: {why}; restore them, or go on under "
            "a new kafka.group_id (`foldcast run --from-group`)"
        )
    return (
        f"the changelog of partition {partition} cannot be gone on with: {why}; go on under a new kafka.group_id "
        "(`foldcast run --from-group`)"
    )


def other_input(partition: int, was: str, now: str, offset: int) -> str:
    """Return the refusal of an image at `offset` whose input has another id by now."""
    return (
        f"the input was deleted and made anew: the state of partition {partition} is of topic {was}, and now there is "
        f"{now}, of which {offset} records would be skipped; start under a new kafka.group_id"
    )


def lost_state(partition: int, committed: int) -> str:
    """Return the refusal of a changelog without an image, though the group has an offset."""
    return (
        f"the changelog of partition {partition} is empty, though the group has committed offset {committed}: its "
        "state is lost; `foldcast topics reset` starts it cold from there, a new kafka.group_id from the beginning"
    )


def behind(partition: int, committed: int, image: int, newest: int) -> str:
    """Return the refusal of a group's offset that is behind what the changelog shows to be committed."""
    return (
        f"the group's offset for partition {partition} ({committed}) is behind the changelog, whose image is at "
        f"{image} and whose newest entry was committed at {newest}: they are from two lives of the group; start under "
        "a new kafka.group_id"
    )


def no_offset(partition: int, known: int) -> str:
    """Return the refusal of a group without an offset that had `known`, where nothing tells what it forecast since."""
    return (
        f"the group has no committed offset for partition {partition}, though its changelog shows that it had {known}, "
        "and records came since that may have been forecast: set it to that or to what lies behind the last forecast "
        "(kafka-consumer-groups --reset-offsets), or start under a new kafka.group_id"
    )


def beyond_input(partition: int, committed: int, end: int) -> str:
    """Return the refusal of a group's offset that the input does not reach."""
    return (
        f"the group's offset for partition {partition} ({committed}) is beyond the input's end ({end}): the topic was "
        "made anew or cut; start under a new kafka.group_id"
    )


def beyond_retention(partition: int, group: str, published: int, begin: int) -> str:
    """Return the refusal of an input that has lost records which the predecessor had not forecast yet."""
    return (
        f"the input's retention has passed what group {group} published of partition {partition}: records from "
        f"{published} are to be forecast, the log begins at {begin}; worker.on_gap = skip goes on without them"
    )
