"""The kinds of fault, by name. Each returns what it did in words; whatever it leaves, `Storm.recover` takes away."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.mixed.storm import NODE, RECOVERY_LIMIT_S, SESSION_S, Storm
from tests.rigs.cluster import Worker
from tests.rigs.dying_worker import POINTS, VARIABLE
from tests.rigs.proxy import Cut, Key

Fault = Callable[[Storm], str]

POINT_LIMIT_S = 60.0  # where learning is off nobody comes to the trainer's


def worker_killed(storm: Storm) -> str:
    """SIGKILL, and now and then another while it restores."""
    worker = storm.rng.choice(storm.workers)
    storm.restart(worker, signal.SIGKILL)
    if storm.rng.random() < 0.5:
        return worker.name
    storm.cluster.wait_for(lambda: bool(worker.life.states) or worker.life.ended, "restoring")
    storm.restart(worker, signal.SIGKILL)
    return f"{worker.name}, twice"


def worker_killed_at_a_point(storm: Storm) -> str:
    """A worker that dies when it comes to a named point of its cycle, wherever it is then."""
    worker, point, passes = storm.rng.choice(storm.workers), storm.rng.choice(POINTS), storm.rng.choice((0, 1, 5, 30))
    return killed_at(storm, worker, point, passes, POINT_LIMIT_S)


def killed_at(storm: Storm, worker: Worker, point: str, passes: int, limit_s: float = RECOVERY_LIMIT_S) -> str:
    """Let the worker live one life that ends at the point, or after so many seconds: some it may not come to."""
    worker.tell(signal.SIGTERM)
    worker.wait()
    worker.module, worker.environment[VARIABLE] = "tests.rigs.dying_worker", f"{point}/{passes}"
    worker.start()
    came = storm.cluster.happens(lambda: worker.life.ended, limit_s)
    if not came:
        worker.tell(signal.SIGKILL)
    code = worker.wait()
    worker.module = "worker"
    worker.environment.pop(VARIABLE)
    worker.start()
    return f"{worker.name} at {point}/{passes}, {'dead' if code == -signal.SIGKILL and came else 'not reached'}"


def trainer_killed(storm: Storm) -> str:
    """The trainer alone, or the worker with it."""
    worker = storm.rng.choice(storm.workers)
    everybody = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
    children = [pid for pid in everybody if parent_of(pid) == worker.pid]
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    if storm.rng.random() < 0.5:
        return f"{len(children)} of {worker.name}"
    storm.restart(worker, signal.SIGKILL)
    return f"{len(children)} of {worker.name}, and it too"


def parent_of(pid: int) -> int:
    """The process id of the parent, 0 where it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def worker_frozen(storm: Storm) -> str:
    """SIGSTOP for longer than its session, or about so long."""
    worker, seconds = storm.rng.choice(storm.workers), storm.rng.uniform(SESSION_S - 2, 15)
    worker.tell(signal.SIGSTOP)
    time.sleep(seconds)
    worker.tell(signal.SIGCONT)
    return f"{worker.name} for {seconds:.1f} s"


def worker_restarted(storm: Storm) -> str:
    """An orderly stop and start, with other settings that leave the state its meaning."""
    worker = storm.rng.choice(storm.workers)
    changed = {
        "FOLDCAST_WORKER__SNAPSHOT_EVENTS": str(storm.rng.choice((300, 1000, 3000))),
        "FOLDCAST_FINE_TUNE__ENABLED": storm.rng.choice(("true", "false")),
        "FOLDCAST_WORKER__MAX_POLL_RECORDS": str(storm.rng.choice((50, 500, 4000))),
    }
    worker.environment.update(changed)
    storm.restart(worker, signal.SIGTERM)
    return f"{worker.name}, {', '.join(changed.values())}"


def worker_leaves(storm: Storm) -> str:
    """One more joins with --leave and is told to go while it restores, or once it is live."""
    worker, early = storm.start("", "--leave"), storm.rng.random() < 0.5
    storm.cluster.happens(lambda: bool(worker.life.states) or worker.life.ended, 40.0)
    if not early:
        storm.cluster.happens(lambda: "live" in worker.life.states.values() or worker.life.ended, 40.0)
    worker.tell(signal.SIGTERM)
    storm.dismiss(worker)
    return "while it restored" if early else "once it was live"


def rebalances(storm: Storm) -> str:
    """Several join and leave one after the other, each before the group has come to rest."""
    joined = []
    for _ in range(storm.rng.randint(2, 3)):
        joined.append(storm.start("", "--leave"))
        time.sleep(storm.rng.uniform(0.5, 4))
    for worker in storm.rng.sample(joined, len(joined)):
        worker.tell(storm.rng.choice((signal.SIGTERM, signal.SIGKILL)))
        time.sleep(storm.rng.uniform(0, 2))
    for worker in joined:
        storm.dismiss(worker)
    return f"{len(joined)} more"


def broker_killed(storm: Storm) -> str:
    """SIGKILL of the broker, which comes back after a while."""
    seconds = storm.rng.uniform(0, 8)
    storm.kafka.kill(NODE)
    time.sleep(seconds)
    storm.kafka.restart(NODE)
    return f"for {seconds:.1f} s"


def broker_frozen(storm: Storm) -> str:
    """SIGSTOP of the broker around the limits of a commit and of a session."""
    return _freeze(storm, storm.rng.uniform(7, 13))


def broker_frozen_long(storm: Storm) -> str:
    """SIGSTOP of the broker beyond every limit, and at times far beyond."""
    return _freeze(storm, 70.0 if storm.rng.random() < 0.2 else 20.0)


def _freeze(storm: Storm, seconds: float) -> str:
    worker = storm.rng.choice(storm.workers)
    behind = storm.rng.random() < 0.5  # so that it has much to do, and its transactions are big
    if behind:
        worker.tell(signal.SIGSTOP)
        time.sleep(storm.rng.uniform(1, 3))
        worker.tell(signal.SIGCONT)
        time.sleep(storm.rng.uniform(0.05, 1))
    storm.kafka.freeze(NODE)
    time.sleep(seconds)
    storm.kafka.thaw(NODE)
    return f"for {seconds:.1f} s" + (f", {worker.name} behind" if behind else "")


def connections_cut(storm: Storm) -> str:
    """All connections at once, several times."""
    times = storm.rng.randint(1, 5)
    for _ in range(times):
        storm.proxy.cut_all()
        time.sleep(storm.rng.uniform(0, 1))
    return f"{times} times"


def requests_cut(storm: Storm) -> str:
    """Some of the requests of one kind or two, before or after they arrive, or their answers, for a while."""
    before = storm.proxy.hits.total()
    keys = storm.rng.sample(list(Key), storm.rng.randint(1, 2))
    cuts = [storm.rng.choice(list(Cut)) for _ in keys]
    for key, cut in zip(keys, cuts, strict=True):
        storm.proxy.cut_at(key, cut, storm.rng.choice((0.05, 0.3, 1.0)))
    time.sleep(storm.rng.uniform(2, 12))
    words = ", ".join(f"{key.name} {cut.name}" for key, cut in zip(keys, cuts, strict=True))
    return f"{words}: {storm.proxy.hits.total() - before}"


def network_slow(storm: Storm) -> str:
    """Everything later by up to two seconds."""
    storm.proxy.delay_s = delay_s = storm.rng.choice((0.05, 0.3, 2.0))
    time.sleep(storm.rng.uniform(3, 10))
    return f"{delay_s} s"


def network_gone(storm: Storm) -> str:
    """Nothing passes and nothing is closed."""
    seconds = storm.rng.uniform(3, 20)
    storm.proxy.hole = True
    time.sleep(seconds)
    return f"for {seconds:.1f} s"


KINDS: dict[str, tuple[Fault, float]] = {  # with their weights in a random order
    "worker killed": (worker_killed, 3),
    "worker killed at a point": (worker_killed_at_a_point, 3),
    "trainer killed": (trainer_killed, 1),
    "worker frozen": (worker_frozen, 2),
    "worker restarted": (worker_restarted, 2),
    "worker leaves": (worker_leaves, 1),
    "rebalances": (rebalances, 1),
    "broker killed": (broker_killed, 2),
    "broker frozen": (broker_frozen, 2),
    "broker frozen long": (broker_frozen_long, 0.5),
    "connections cut": (connections_cut, 2),
    "requests cut": (requests_cut, 4),
    "network slow": (network_slow, 1),
    "network gone": (network_gone, 2),
}
