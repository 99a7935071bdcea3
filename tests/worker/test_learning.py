"""Learning beside the loop, in memory: what is offered, which answers count, what comes into service and when."""

import math
from collections.abc import Callable
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from pipeline.durable.image import GOOD_KEY
from pipeline.learning import watchdog
from pipeline.learning.adoption import Adoption
from pipeline.learning.fine_tune import Optimiser
from pipeline.network.checkpoint import Checkpoint
from tests.rigs.loop_rig import FAILURES, METHOD, SCHEDULE, Rig
from tests.rigs.memory_broker import CHANGELOG, INPUT, OUTPUT
from tests.rigs.memory_log import Transaction
from tests.rigs.shard_rigs import restless
from worker.http.status import Status
from worker.learning import Learning, LearningPolicy
from worker.lives.learning_state import MOST_ADOPTIONS
from worker.lives.live import Live
from worker.trainer.messages import Answer, Offer


def learning_rig(events: int = 200, **changes: object) -> Rig:
    """One worker that has taken in so many records and learnt from them."""
    rig = Rig(**{"partitions": 1, "learning": True, "snapshot_events": None, **changes})  # type: ignore[arg-type]
    rig.start()
    feed(rig, events)
    return rig


def feed(rig: Rig, events: int) -> None:
    """Produce in small portions, so that answers come between them."""
    for _ in range(-(-events // 20)):
        rig.produce(20)
        rig.drain()


def until_live(rig: Rig) -> Live:
    """Cycle until the one shard is live; each cycle compares with the fold that never stopped."""
    for _ in range(200):
        rig.cycle()
        if (live := rig.loops["one"].lives.get(0)) is not None and live.at_c:
            return live
    raise AssertionError("it does not become live")


def adoptions(rig: Rig) -> dict[int, bytes | None]:
    """By offset, as the changelog has them; None: deleted."""
    found = {}
    for m in rig.cluster.committed_messages(CHANGELOG):
        at = (m.key or b"").removeprefix(b"weights-")
        if at.isdigit():
            found[int(at)] = m.value
    return found


def digest(data: bytes) -> bytes:
    return Adoption.load(data).weights["rnn.weight_hh_l0"].tobytes()


def dropped(rig: Rig) -> dict[str, float]:
    reasons = ("late", "orphaned", "impossible")
    return {r: n for r in reasons if (n := rig.sample("fine_tune_answers_dropped_total", reason=r))}


def test_answers_come_into_service_and_are_logged_with_the_offset_they_hold_from() -> None:
    rig = learning_rig()
    logged = adoptions(rig)
    assert len(logged) > 10
    assert rig.sample("fine_tunes_total", outcome="adopted") == len(logged) - 1, "the first are the base weights"
    shard = rig.loops["one"].lives[0].shard
    assert shard is not None
    newest = Adoption.load(logged[max(logged)] or b"")
    assert shard.weights_offset == max(logged)
    assert all(np.array_equal(weight, newest.weights[name]) for name, weight in shard.network.weights.items())
    assert 0 < newest.trained_through <= max(logged)
    first = Adoption.load(logged[min(logged)] or b"")
    assert newest.optimiser.updates - first.optimiser.updates == newest.optimiser.steps == len(logged) - 1
    rig.check_topics()


def test_what_a_restart_replays_is_not_due_again() -> None:
    rig = learning_rig()
    rig.start()
    until_live(rig)
    rig.cycle(times=3)
    assert rig.sample("fine_tune_skipped_total") == 0


def test_a_restart_folds_each_stretch_with_the_weights_that_were_in_service_then() -> None:
    rig = learning_rig()
    before = adoptions(rig)
    rig.start()
    life = until_live(rig)
    assert life.replayed >= 200, "all of it, with every adoption on the way"
    assert adoptions(rig) == before
    feed(rig, 60)
    rig.check_topics()
    assert len(adoptions(rig)) > len(before), "and it goes on to learn"


def test_the_optimiser_goes_on_from_where_the_last_adoption_left_it() -> None:
    rig = learning_rig()
    newest = Adoption.load(adoptions(rig)[max(adoptions(rig))] or b"")
    rig.start()
    feed(rig, 60)
    first = rig.trainers["one"].offers[0].state
    assert first is not None
    resumed = Adoption.load(first)
    assert (resumed.optimiser.steps, resumed.optimiser.updates) == (newest.optimiser.steps, newest.optimiser.updates)
    assert resumed.optimiser.steps > 10
    assert resumed.optimiser.state is not None
    assert newest.optimiser.state is not None
    assert np.array_equal(resumed.optimiser.state, newest.optimiser.state)


def test_what_became_due_while_the_trainer_was_busy_is_offered_though_no_event_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = learning_rig(events=40)
    trainer = rig.trainers["one"]
    trainer.held = True
    feed(rig, 200)
    offers, looked = len(trainer.offers), list[Live]()
    trainer.held = False
    due = Learning._due
    monkeypatch.setattr(Learning, "_due", lambda learning, live: looked.append(live) or due(learning, live))  # type: ignore[func-returns-value]
    rig.cycle(times=3)
    assert len(trainer.offers) == offers + 1
    assert len(looked) == 2 + 2, "to offer, and to find that no more is due"
    rig.cycle(times=3)
    assert len(looked) == 2 + 2, "nothing came that could have made more due"
    rig.produce(1)
    rig.cycle()
    assert len(looked) == 2 + 2 + 2


# ---- invariant 5: weights never know more than what is committed


def test_offers_are_made_of_what_is_committed_only(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = learning_rig(events=40)
    trainer, seen = rig.trainers["one"], list[tuple[int, int]]()
    send = trainer.send

    def watched(offer: Offer) -> None:
        seen.append((offer.trained_through, rig.cluster.offsets[0]))
        send(offer)

    monkeypatch.setattr(trainer, "send", watched)
    for _ in range(30):
        rig.produce(9)
        rig.cycle()
    assert len(seen) > 5
    assert all(through == committed for through, committed in seen), "committed when it was offered"


@pytest.mark.parametrize("failure", FAILURES)
def test_an_answer_that_was_delayed_across_a_failed_commit_is_not_adopted(failure: str) -> None:
    rig = learning_rig()
    trainer, broker = rig.trainers["one"], rig.brokers["one"]
    trainer.held = True
    feed(rig, 40)
    assert not trainer.idle, "an offer is with the trainer"
    incarnation = trainer.offers[-1].incarnation
    broker.fail_commit = failure
    rig.produce(20)
    rig.cycle(times=3)
    loop = rig.loops["one"]
    assert {**loop.lives, **loop.restoring}[0].incarnation > incarnation, "that life is over"
    said: list[Answer] = []
    trainer.tampered = lambda answer: said.append(answer) or answer  # type: ignore[func-returns-value]
    trainer.held = False
    feed(rig, 80)
    assert dropped(rig) == {"orphaned": 1}
    assert said[0].incarnation == incarnation
    delayed, newest = digest(said[0].state), digest(said[-2].state)
    in_service = {digest(data) for data in adoptions(rig).values() if data is not None}
    assert newest in in_service, "the new life learns"
    assert delayed not in in_service
    rig.check_topics()


def test_an_adoption_whose_commit_failed_was_never_in_service() -> None:
    rig = learning_rig()
    trainer = rig.trainers["one"]
    while rig.loops["one"].lives[0].learning.candidate is None:
        rig.produce(5)
        rig.cycle()
    adopted = rig.sample("fine_tunes_total", outcome="adopted")
    before = adoptions(rig)
    trainer.held = True
    rig.brokers["one"].fail_commit = "refused"
    rig.produce(5)
    rig.cycle()
    assert adoptions(rig) == before
    assert rig.sample("fine_tunes_total", outcome="adopted") == adopted
    rig.drain()
    rig.check_topics()


def test_an_answer_after_a_rebalance_is_thrown_away() -> None:
    rig = learning_rig()
    rig.trainers["one"].held = True
    feed(rig, 40)
    rig.cluster.expire("one")
    rig.trainers["one"].held = False
    rig.cycle(times=3)
    until_live(rig)
    assert dropped(rig) == {"orphaned": 1}


# ---- answers that cannot be


def changed(**fields: object) -> Callable[[Answer], Answer]:
    return lambda answer: msgspec.structs.replace(answer, **fields)


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (changed(trained_through=10**9), "impossible"),
        (changed(trained_through=0), "impossible"),
        (changed(outcome="wonderful"), "impossible"),
        (changed(cpu_s=math.nan), "impossible"),
        (changed(cpu_s=-1.0), "impossible"),
        (changed(gradient_norm=math.inf), "impossible"),
        (changed(number=1), "late"),
        (changed(parent=10**9), "orphaned"),
        (changed(incarnation=0), "orphaned"),
        (changed(partition=7), "orphaned"),
    ],
)
def test_an_answer_that_does_not_fit_is_thrown_away_and_learning_goes_on(
    tamper: Callable[[Answer], Answer], reason: str
) -> None:
    rig = learning_rig()
    rig.trainers["one"].tampered = tamper
    before = adoptions(rig)
    feed(rig, 60)
    assert set(dropped(rig)) == {reason}
    assert len(adoptions(rig)) <= len(before) + 1, "at most what had been answered before"
    rig.trainers["one"].tampered = lambda answer: answer
    feed(rig, 60)
    assert len(adoptions(rig)) > len(before) + 1
    rig.check_topics()


def not_finite(answer: Answer) -> Answer:
    adoption = Adoption.load(answer.state)
    weights = {name: np.full_like(weight, math.nan) for name, weight in adoption.weights.items()}
    return msgspec.structs.replace(answer, state=replace(adoption, weights=weights).dump())


def other_shape(answer: Answer) -> Answer:
    adoption = Adoption.load(answer.state)
    weights = {name: weight[:1] for name, weight in adoption.weights.items()}
    return msgspec.structs.replace(answer, state=replace(adoption, weights=weights).dump())


def endless(answer: Answer) -> Answer:
    adoption = Adoption.load(answer.state)
    return msgspec.structs.replace(
        answer, state=replace(adoption, optimiser=replace(adoption.optimiser, factor=math.inf)).dump()
    )


def too_wide(answer: Answer) -> Answer:
    """Finite, but not in float32."""
    adoption = Adoption.load(answer.state)
    weights = {name: np.full_like(weight, 1e300, dtype=np.float64) for name, weight in adoption.weights.items()}
    return msgspec.structs.replace(answer, state=replace(adoption, weights=weights).dump())


@pytest.mark.parametrize(
    "tamper", [not_finite, other_shape, endless, too_wide, changed(state=b""), changed(state=b"nonsense")]
)
def test_weights_that_cannot_be_used_are_counted_and_never_in_service(tamper: Callable[[Answer], Answer]) -> None:
    rig = learning_rig()
    rig.cycle(times=2)
    rig.trainers["one"].tampered = tamper
    before = adoptions(rig)
    feed(rig, 100)
    assert rig.sample("fine_tunes_total", outcome="nonfinite") > 1
    assert len(adoptions(rig)) <= len(before) + 1
    rig.trainers["one"].tampered = lambda answer: answer
    feed(rig, 100)
    assert rig.trainers["one"].offers[-1].state is None, "the trainer goes on from its own weights again"
    assert len(adoptions(rig)) > len(before) + 1
    for m in rig.cluster.committed_messages(OUTPUT):
        assert b"NaN" not in (m.value or b""), m
    rig.check_topics()


def test_a_trainer_that_was_replaced_begins_with_what_is_in_service() -> None:
    rig = learning_rig()
    trainer = rig.trainers["one"]
    trainer.held = True
    feed(rig, 40)
    trainer.die()
    trainer.held = False
    feed(rig, 40)
    offers = [offer for offer in trainer.offers if offer.state is not None]
    assert len(offers) == 2, "the first one ever and the first one after it was replaced"
    assert Adoption.load(offers[1].state or b"").optimiser.steps > 10
    assert dropped(rig) == {}
    rig.check_topics()


# ---- the watchdog


def test_weights_worse_than_the_last_value_are_rolled_back_with_half_the_rate() -> None:
    rig = learning_rig(checkpoint=None)
    life = rig.loops["one"].lives[0]
    good = life.learning.held.good
    parent = life.learning.parent
    rig.witnessing = False  # the next line is not part of the fold
    life.shard.watch[[watchdog.NETWORK, watchdog.LAST_VALUE, watchdog.LABELS]] = 1.2, 1.0, 1e6
    rig.produce(5)
    rig.turn()
    rig.turn()
    assert rig.sample("fine_tunes_total", outcome="rolled_back") == 1
    newest = Adoption.load(adoptions(rig)[max(adoptions(rig))] or b"")
    assert newest.rolled_back
    assert (newest.optimiser.steps, newest.optimiser.factor) == (0, 0.5)
    assert all(np.array_equal(weight, good.weights[name]) for name, weight in newest.weights.items())
    assert life.shard.watch[watchdog.NETWORK] <= life.shard.watch[watchdog.LAST_VALUE]
    assert life.learning.parent > parent
    for _ in range(10):
        rig.produce(10)
        rig.turn()
    sent = [offer for offer in rig.trainers["one"].offers if offer.parent == life.learning.parent]
    assert Adoption.load(sent[0].state or b"").optimiser.factor == 0.5, "the trainer begins anew"


def test_a_rolled_back_shard_is_restored_as_it_was() -> None:
    """With a rate that ruins the network: roll-backs come by themselves, and all folds agree on them."""
    rig = learning_rig(events=20, checkpoint=None)
    rig.loops["one"]._learning._policy = LearningPolicy(SCHEDULE, 0, 1)
    trainer = rig.trainers["one"]
    trainer._trainer._setup = msgspec.structs.replace(
        trainer._setup, schedule=replace(SCHEDULE, learning_rate=0.9, clip_norm=1e6)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.learning.watchdog.PATIENCE", 10)
        feed(rig, 600)
        assert rig.sample("fine_tunes_total", outcome="rolled_back") > 0
        rig.start()
        until_live(rig)
        rig.check_topics()


# ---- the changelog


def test_adoptions_are_deleted_once_an_image_has_passed_their_successor() -> None:
    rig = learning_rig(snapshot_events=40)
    logged, image = adoptions(rig), rig.image(0)
    assert image.marker is not None
    kept = [at for at, value in logged.items() if value is not None]
    assert len(logged) > len(kept) > 0
    assert min(kept) <= image.marker.weights
    for at, value in logged.items():
        assert value is not None or at < image.marker.weights, f"{at} is still needed"
    rig.start()
    until_live(rig)
    rig.check_topics()


def test_adoptions_are_kept_for_as_long_as_asked() -> None:
    rig = Rig(partitions=1, learning=True, snapshot_events=40)
    rig.limits = replace(rig.limits, history_s=3600)
    rig.start()
    feed(rig, 200)
    logged = adoptions(rig)
    assert len(logged) > 10
    assert all(value is not None for at, value in logged.items() if at > 0), "the base weights have no age"


def test_many_adoptions_make_a_snapshot_due() -> None:
    rig = learning_rig(events=20)
    outstanding = []
    for _ in range(2 * MOST_ADOPTIONS):
        rig.produce(12)
        rig.drain()
        life = rig.loops["one"].lives[0]
        outstanding.append(life.learning.outstanding(life.shard))
    assert len(rig.markers()) > 2, "though nothing else asks for one"
    assert max(outstanding) <= MOST_ADOPTIONS // 2 + 1


def test_the_weights_to_go_back_to_survive_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.learning.watchdog.is_good", lambda _: True)
    monkeypatch.setattr("pipeline.learning.adoption.GOOD_EVERY", 2)
    rig = learning_rig()
    goods = [m.value for m in rig.cluster.committed_messages(CHANGELOG) if m.key == GOOD_KEY]
    rig.start()
    learning = until_live(rig).learning
    assert learning is not None
    newest = Adoption.load(goods[-1] or b"")
    assert len(goods) > 1
    assert all(np.array_equal(weight, newest.weights[name]) for name, weight in learning.held.good.weights.items())


def test_the_weights_a_shard_began_with_survive_a_restart_under_another_checkpoint() -> None:
    rig = learning_rig()
    rig.plan = replace(rig.plan, checkpoint=None, seed=5)
    rig.start()
    learning = until_live(rig).learning
    assert learning is not None
    assert digest(learning.held.base.dump()) == digest(adoptions(rig)[0] or b"")


def pretrained(seed: int) -> bytes:
    """A checkpoint as `foldcast pretrain` writes it."""
    return Checkpoint(restless(METHOD, seed).weights, {"updates": "70"}).dump()


def test_a_shard_begins_with_the_weights_of_a_pretrained_checkpoint_and_learns_in_two_chains() -> None:
    rig = learning_rig(checkpoint=pretrained(7))
    first = Adoption.load(adoptions(rig)[0] or b"")
    expected = restless(METHOD, 7).weights
    assert all(np.array_equal(weight, expected[name]) for name, weight in first.weights.items())
    assert first.optimiser == Optimiser.blank(two_chains=True)
    newest = Adoption.load(adoptions(rig)[max(adoptions(rig))] or b"")
    assert newest.optimiser.judged[0] > 0, "samples tell what is new"
    assert newest.optimiser.state is not None
    assert len(newest.optimiser.state) == 5
    rig.start()
    assert until_live(rig).learning.held.in_service.optimiser.judged == newest.optimiser.judged
    rig.check_topics()


def test_a_restart_under_another_base_goes_on_with_its_own_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    rig, words = learning_rig(checkpoint=pretrained(7)), "those of its state, not model.checkpoint's"
    for seed, other in ((7, False), (8, True)):
        caplog.clear()
        rig.plan = replace(rig.plan, checkpoint=pretrained(seed))
        rig.start()
        base, expected = until_live(rig).learning.held.base.weights, restless(METHOD, 7).weights
        assert all(np.array_equal(base[name], weight) for name, weight in expected.items())
        told = [getattr(record, "fields", {}).get("begin_with") for record in caplog.records]
        assert (words in told) == other
    feed(rig, 40)
    rig.check_topics()


# ---- when


def test_without_learning_the_weights_in_service_stay_what_they_are() -> None:
    rig = Rig(partitions=1, learning=True)
    rig.start()
    feed(rig, 200)
    rig._learning = False
    rig.start()
    shard = until_live(rig).shard
    assert shard is not None
    in_service, digest = shard.weights_offset, shard.network.digest()
    assert in_service > 0
    feed(rig, 200)
    assert (shard.weights_offset, shard.network.digest()) == (in_service, digest)
    rig.check_topics()


def test_newer_weights_wait_for_the_adoption_interval() -> None:
    rig = learning_rig(events=40)
    rig.loops["one"]._learning._policy = LearningPolicy(SCHEDULE, 1e9, 1)
    feed(rig, 40)
    before = adoptions(rig)
    feed(rig, 100)
    assert adoptions(rig) == before
    assert rig.sample("fine_tune_updates_total") > len(before)


def test_learning_rests_so_that_it_keeps_to_its_share_of_a_cpu() -> None:
    rig = learning_rig(events=100)
    learning: Learning = rig.loops["one"]._learning
    learning._policy = LearningPolicy(SCHEDULE, 0, 1e-9)
    feed(rig, 40)
    offers = len(rig.trainers["one"].offers)
    feed(rig, 100)
    assert len(rig.trainers["one"].offers) == offers, "one answer, and then it rests"
    skipped = rig.sample("fine_tune_skipped_total")
    learning._rest_until = 0.0
    rig.produce(1)
    rig.drain()
    rig.cycle()
    assert rig.sample("fine_tune_skipped_total") > skipped + 5, "what was due meanwhile"


def test_the_shard_that_has_waited_longest_is_next() -> None:
    rig = Rig(partitions=3, learning=True)
    rig.start()
    feed(rig, 600)
    turns = [offer.partition for offer in rig.trainers["one"].offers]
    assert min(np.bincount(turns, minlength=3)) > len(turns) / 3 - 3


def test_a_shard_without_windows_is_counted_and_asked_again() -> None:
    rig = Rig(partitions=1, learning=True)
    rig.start()
    for n in range(40):  # a sensor that is stuck: nothing is to be learnt from it
        rig.cluster.produce(0, b"key", b'{"stream":"stuck","time":%d,"value":5}' % (n * 60), n * 60_000)
    rig.drain()
    assert rig.sample("fine_tunes_total", outcome="too_few_windows") > 1
    assert rig.trainers["one"].offers == []
    feed(rig, 100)
    assert rig.trainers["one"].offers
    rig.check_topics()


def test_an_offer_may_come_when_nothing_but_markers_was_passed_since_the_commit() -> None:
    rig = Rig(partitions=1, learning=True)
    rig.start()
    feed(rig, 100)
    learning, offers = rig.loops["one"]._learning, rig.trainers["one"].offers
    learning._rest_until = math.inf
    rig.produce(60)
    rig.drain()
    before = len(offers)
    rig.cluster.logs[INPUT, 0].append(None, 0, Transaction("committed"))
    learning._rest_until = 0.0
    rig.cycle(times=3)
    assert len(offers) > before
    rig.check_topics()


def test_the_age_of_the_weights_is_that_of_the_oldest_in_service() -> None:
    rig = learning_rig()
    shard = rig.loops["one"].lives[0].shard
    assert shard is not None
    Status(rig.loops["one"]._metrics, "one").update(rig.loops["one"])
    assert rig.sample("weights_age_events") == shard.position - shard.weights_offset
