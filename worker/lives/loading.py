"""From a changelog's image to a shard and its learning state, and what makes an empty shard restorable."""

from pipeline.durable.image import Image, ImageError
from pipeline.shard import Shard
from worker.lives.learning_state import LearningState
from worker.plan import Plan


def loaded(image: Image, plan: Plan) -> tuple[Shard, LearningState]:
    """A shard as it was at the image's offset, with the weights that were in service there.

    Raises ValueError where the image is another method's or damaged.
    """
    if image.marker is None:
        raise ImageError("it holds no marker")
    shard = plan.shard(image.marker.offset)
    shard.load(image.marker, image.pages)
    learning = LearningState.restored(shard, image)
    shard.network.take(learning.held.in_service.weights)
    return shard, learning


def cold_start(shard: Shard) -> list[tuple[bytes, bytes]]:
    """Changelog records that make an empty shard restorable.

    They are adoption 0 and an image without pages that knows the settings.
    """
    shard.begin_snapshot()
    return [*LearningState.new(shard).first_records(), *shard.snapshot_pieces(0)[0]]
