"""Simulates a run of 1 billion images on 1,000 workers: failures, slow machines, the tail.

Nothing is embedded: an event simulation of the schedules. ``--part`` deals fixed ranges of shards,
and a killed worker comes back and does the rest of its range. ``--ray`` hands out one shard at a
time. Both lose what a killed worker did since its last save.

    python benchmarks/scale_sim.py [--images N] [--workers N] [--shard-rows N] [--rate IMAGES_PER_S]
"""

from __future__ import annotations

import argparse
import heapq
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Cluster:
    images: int
    workers: int
    shard_rows: int
    rate: float  # images per second of an ordinary worker
    mtbf_hours: float  # mean time between failures of one worker
    restart_seconds: float  # until a killed worker embeds again
    save_seconds: float  # work since the last save is lost
    slow_share: float  # of the workers
    slow_factor: float  # their speed
    seed: int = 0

    @property
    def shards(self) -> int:
        return -(-self.images // self.shard_rows)


@dataclass
class Worker:
    """One worker's clock; works on spans of images and fails at exponential times."""

    cluster: Cluster
    speed: float
    rng: np.random.Generator
    now: float = 0.0
    next_failure: float = 0.0
    failures: int = 0
    wasted: float = 0.0  # seconds of work done twice
    worked: float = 0.0

    def __post_init__(self) -> None:
        self._draw()

    def _draw(self) -> None:
        hours = self.rng.exponential(self.cluster.mtbf_hours)
        self.next_failure = self.now + 3600 * hours

    def do(self, images: float) -> None:
        """Advances the clock by so many images, and by what failures cost."""
        left = images / (self.cluster.rate * self.speed)
        while self.now + left > self.next_failure:
            done = max(0.0, self.next_failure - self.now)
            lost = min(done, self.cluster.save_seconds)
            self.worked += done
            self.wasted += lost
            self.failures += 1
            left += lost - done
            self.now = self.next_failure + self.cluster.restart_seconds
            self._draw()
        self.worked += left
        self.now += left


def workers_of(cluster: Cluster) -> list[Worker]:
    rng = np.random.default_rng(cluster.seed)
    speeds = np.where(rng.random(cluster.workers) < cluster.slow_share, cluster.slow_factor, 1.0)
    speeds = speeds * rng.normal(1.0, 0.03, cluster.workers).clip(0.8, 1.2)
    return [Worker(cluster, float(speed), rng) for speed in speeds]


def by_parts(cluster: Cluster, n: int) -> list[Worker]:
    """``n`` parts; a worker that has done its part takes the next one that nobody has."""
    workers = workers_of(cluster)
    heap = [(worker.now, number) for number, worker in enumerate(workers)]
    heapq.heapify(heap)
    for part in range(n):
        shards = (part + 1) * cluster.shards // n - part * cluster.shards // n
        _, number = heapq.heappop(heap)
        workers[number].do(shards * cluster.shard_rows)
        heapq.heappush(heap, (workers[number].now, number))
    return workers


def by_shards(cluster: Cluster) -> list[Worker]:
    """One shard at a time; the shard of a killed worker starts from the last save."""
    workers = workers_of(cluster)
    heap = [(worker.now, number) for number, worker in enumerate(workers)]
    heapq.heapify(heap)
    for _ in range(cluster.shards):
        _, number = heapq.heappop(heap)
        workers[number].do(cluster.shard_rows)
        heapq.heappush(heap, (workers[number].now, number))
    return workers


def show(name: str, cluster: Cluster, workers: list[Worker]) -> None:
    ends = np.sort([worker.now for worker in workers]) / 3600
    worked = sum(worker.worked for worker in workers)
    wasted = sum(worker.wasted for worker in workers)
    failures = sum(worker.failures for worker in workers)
    ideal = cluster.images / sum(worker.speed * cluster.rate for worker in workers) / 3600
    idle = 1 - ends.mean() / ends[-1]
    print(
        f"{name:34} {ends[-1]:8.2f} {ideal:8.2f} {np.median(ends):8.2f} {failures:8d} "
        f"{100 * wasted / worked:9.3f} {100 * idle:7.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=1_000_000_000)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--shard-rows", type=int, default=16384)
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--mtbf-hours", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    cluster = Cluster(
        given.images, given.workers, given.shard_rows, given.rate, given.mtbf_hours,
        restart_seconds=120, save_seconds=10, slow_share=0.02, slow_factor=0.3, seed=given.seed,
    )  # fmt: skip
    n = cluster.workers
    print(
        f"{cluster.images:,} images, {n:,} workers at {cluster.rate:g} images/s, "
        f"{cluster.shards:,} shards; each worker fails every {cluster.mtbf_hours:g} h and "
        f"is back after {cluster.restart_seconds:g} s; "
        f"{cluster.slow_share:.0%} run at {cluster.slow_factor:.0%}"
    )
    print(
        f"{'schedule':34} {'end h':>8} {'ideal h':>8} {'median h':>8} {'failures':>8} "
        f"{'wasted %':>9} {'idle %':>7}"
    )
    for factor in (1, 4, 16):
        show(f"--part, {factor} per worker", cluster, by_parts(cluster, factor * n))
    show("--ray, a shard at a time", cluster, by_shards(cluster))


if __name__ == "__main__":
    main()
