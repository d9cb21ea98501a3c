"""Who is judged dead, stuck or in order, with a table and a clock of the test's own."""

import functools
import json

import jax
import pytest

from atomjax.runtime.cluster import processes
from atomjax.runtime.cluster.watch import Watch


class Table:
    """Stands in for the coordination service."""

    def __init__(self):
        self.values: dict[str, str] = {}

    def key_value_set(self, key, value, allow_overwrite=False):
        assert allow_overwrite or key not in self.values
        self.values[key] = value

    def key_value_dir_get(self, key):
        return [(k, v) for k, v in self.values.items() if k.startswith(key)]

    def wait_at_barrier(self, barrier_id, timeout_in_ms):
        raise AssertionError


class Group:
    """Some processes of one run, and what each was told at its end, and its status."""

    def __init__(self, count=3):
        self.now, self.ended, self.status = 0.0, {}, {}
        table = Table()
        self.watches = [
            Watch(
                table,
                index,
                count,
                heartbeat_timeout=10,
                stall_timeout=60,
                end=functools.partial(self.end, index),
                clock=lambda: self.now,
            )
            for index in range(count)
        ]

    def end(self, index, message, status):
        self.ended.setdefault(index, message)
        self.status.setdefault(index, status)

    def run(self, seconds, *, silent=(), working=()):
        for _ in range(int(seconds)):
            self.now += 1
            for index, watch in enumerate(self.watches):
                if index in working:
                    watch.advance("training")
                if index not in silent and index not in self.ended:
                    watch.step()


def test_processes_that_get_on_are_left_alone():
    group = Group()
    # One at a time is enough: the others may be waiting for it.
    group.run(100, working=[2])
    assert group.ended == {}


def test_silent_process_is_named_to_all():
    group = Group()
    group.run(20, working=[0, 1, 2])
    group.run(10, working=[0, 2], silent=[1])
    assert group.ended == {}
    group.run(2, working=[0, 2], silent=[1])
    assert group.status == {0: 75, 2: 75}
    for message in group.ended.values():
        assert "lost 1 of 3 processes (--heartbeat-timeout=10): process 1 on" in message
        assert "(training, 20 units done) has not been heard of for 11 s" in message
        assert "the same command on every host resumes" in message
    assert group.ended[2].startswith("ended by process 0 on")


def test_process_that_never_came_is_named():
    group = Group()
    group.run(12, silent=[2], working=[0, 1])
    assert "process 2 (which never said anything)" in group.ended[0]


def test_stuck_run_names_the_process_that_is_furthest_behind():
    group = Group()
    group.run(5, working=[0, 1, 2])
    group.run(1, working=[0, 2])
    group.run(60)
    assert group.ended == {}
    group.run(2)
    assert set(group.ended) == {0, 1, 2}
    assert "no process has got on for 60 s (--stall-timeout)" in group.ended[0]
    assert "process 1 on" in group.ended[0]
    assert "process 2" not in group.ended[0]


def test_failure_of_one_ends_the_others_with_its_message():
    group = Group()
    group.run(3, working=[0, 1, 2])
    group.watches[1].accuse("config.train: wrong", 2)
    group.run(1)
    # A scheduler that sees the highest status should not start the run again.
    assert group.status == {0: 2, 2: 2}
    assert "ended by process 1 on" in group.ended[0]
    assert group.ended[0].endswith("config.train: wrong")


@pytest.mark.parametrize(("timeout", "interval"), [(5, 0.5), (1000, 5)])
def test_interval_leaves_room_for_late_beats(timeout, interval):
    watch = Watch(Table(), 0, 1, heartbeat_timeout=timeout, stall_timeout=60, end=print)
    assert watch.interval == interval


def test_unreachable_table_does_not_hide_the_reason(capsys):
    class Gone(Table):
        def key_value_set(self, key, value, allow_overwrite=False):
            raise RuntimeError("UNAVAILABLE")

    watch = Watch(Gone(), 1, 2, heartbeat_timeout=10, stall_timeout=60, end=print)
    watch.accuse("a reason", 1)
    assert "could not be told: UNAVAILABLE" in capsys.readouterr().err


def test_beats_are_json():
    table = Table()
    watch = Watch(table, 0, 1, heartbeat_timeout=10, stall_timeout=60, end=print)
    watch.advance("evaluating")
    watch.step()
    beat = json.loads(table.values["atomjax/beat/0"])
    assert (beat["units"], beat["place"]) == (1, "evaluating")


class Quiet:
    """A watch that knows of nothing."""

    interval = 0.0

    def silent(self, seconds):
        return []


def chained(error, cause):
    error.__cause__ = cause
    return error


XLA = jax.errors.JaxRuntimeError
GONE = XLA("UNAVAILABLE: failed to connect to all addresses")


@pytest.mark.parametrize(
    "error",
    [
        GONE,
        XLA("DEADLINE_EXCEEDED: Barrier timed out. Id: end of the run (3)"),
        XLA("INTERNAL: Gloo all-reduce failed: Connection closed by peer [127.0.0.1]:3322"),
        XLA("INTERNAL: NCCL operation ncclAllReduce failed: remote process exited"),
        ValueError("UNKNOWN: Gloo AllGather failed: Read error [::1]: Connection reset by peer"),
        chained(RuntimeError("saving failed"), GONE),
    ],
)
def test_a_collective_operation_that_fails_means_a_lost_process(error, monkeypatch):
    monkeypatch.setattr(processes, "_watch", Quiet())
    assert "another process was lost" in str(processes.describe_loss(error))


@pytest.mark.parametrize(
    "error",
    [
        ValueError("chains.xyz: structure 3: the reaction's barrier is unavailable"),
        BrokenPipeError(32, "Broken pipe"),
        ConnectionResetError(104, "Connection reset by peer"),
        RuntimeError("a worker of the loader stopped: heartbeat of worker 2"),
        XLA("RESOURCE_EXHAUSTED: Out of memory allocating 3 bytes for barrier.7"),
        XLA("INVALID_ARGUMENT: gloo has no all-to-all of this type"),
    ],
)
def test_an_error_that_would_come_again_is_no_lost_process(error, monkeypatch):
    monkeypatch.setattr(processes, "_watch", Quiet())
    assert processes.describe_loss(error) is None
