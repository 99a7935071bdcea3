"""What one life of a shard knows of its learning: adoptions in the changelog, weights on trial, what was offered."""

from dataclasses import dataclass, field
from itertools import pairwise

from pipeline.durable.image import BASE_KEY, Image, weights_key
from pipeline.learning.adoption import Adoption, WeightsHeld
from pipeline.shard import Shard

MOST_ADOPTIONS = 64  # after the image in force: a restore reads them all


@dataclass
class LearningState:
    """Comes with a loaded shard and ends with its life."""

    held: WeightsHeld
    logged: dict[int, int]  # when each adoption in the changelog was made, by the offset it holds from
    pending: list[tuple[int, Adoption]] = field(default_factory=list)  # logged after the image, not yet reached
    parent: int = 0  # offset of the adoption that the trainer's weights descend from
    generation: int = 0  # of the trainer that has them; 0: none has
    candidate: bytes | None = None  # newest answer: an adoption that may come into service
    learnt_from: int = 0  # accepted events at the last offer
    offered_at: float = 0.0
    adopt_after: float = 0.0
    outcome: str | None = None  # of this cycle, counted once it is committed

    @classmethod
    def new(cls, shard: Shard) -> "LearningState":
        """The learning state of a shard that begins with its base weights."""
        base = Adoption.base(shard.network, shard.position)
        return cls(WeightsHeld(base, base, base), {shard.position: base.made_ms}, parent=shard.position)

    @classmethod
    def restored(cls, shard: Shard, image: Image) -> "LearningState":
        """Of a shard that was loaded from the image, whose marker names its weights. Raises ValueError."""
        adoptions = {offset: Adoption.load(data) for offset, data in sorted(image.weights.items())}
        if image.base is None:
            raise ValueError("the weights it began with are not there")
        base = Adoption.load(image.base)
        good = base if image.good is None else Adoption.load(image.good)
        for adoption in (base, good, *adoptions.values()):
            shard.network.check(adoption.weights)
        in_service = adoptions[shard.weights_offset]
        learning = cls(WeightsHeld(in_service, good, base), {offset: a.made_ms for offset, a in adoptions.items()})
        learning.pending = [(offset, a) for offset, a in adoptions.items() if offset > shard.weights_offset]
        learning.parent = shard.weights_offset
        return learning

    def first_records(self) -> list[tuple[bytes, bytes]]:
        """What the changelog has to hold of a shard that begins."""
        data = self.held.base.dump()
        return [(weights_key(self.parent), data), (BASE_KEY, data)]

    def reach(self, shard: Shard, offset: int) -> None:
        """Bring into service what is logged to hold from this offset, or one before it."""
        while self.pending and self.pending[0][0] <= offset:
            at, adoption = self.pending.pop(0)
            shard.adopt(adoption.weights, at, adoption.rolled_back)
            self.held.in_service = adoption
            self.parent = at

    def outstanding(self, shard: Shard) -> int:
        """Adoptions that a restore would read beside those of the image in force."""
        return sum(offset > shard.image_weights for offset in self.logged)

    def superseded(self, shard: Shard, before_ms: int) -> list[int]:
        """Adoptions whose successor the image in force has passed and that is old enough; they are forgotten."""
        pairs = pairwise(sorted(self.logged))
        old = [at for at, after in pairs if after <= shard.image_weights and self.logged[after] < before_ms]
        for offset in old:
            del self.logged[offset]
        return old
