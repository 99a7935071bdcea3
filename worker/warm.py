"""Compiles every kernel once for these settings; numba keeps them on disk."""

from pipeline.compiled import compilations
from pipeline.shard import Shard
from worker.life import Plan


def warm(plan: Plan) -> tuple[int, int]:
    """Fold a few events, all kernels included; how many were compiled, how many found compiled."""
    shard = Shard(plan.method, plan.network(), 0, plan.settings)
    form = plan.decoder.form
    template = '{"%s": "warm", "%s": %d, "%s": %d}'
    bodies = [
        (template % (form.stream_field, form.time_field, 60 * i, form.target_field, 1 + i)).encode() for i in range(3)
    ]
    batch, rejected = plan.decoder.decode(range(3), [180_000] * 3, [None] * 3, bodies)
    assert not rejected, f"warming events are events: {rejected}"
    shard.advance(batch)
    return compilations()
