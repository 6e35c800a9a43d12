"""What the service counts, in the format of Prometheus."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

__all__ = ["Metrics"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """The counters of one service.

    Attributes:
        batch_size: Images per batch of the engine.
        queue: Images that wait.
        connections: Open connections.
        refused: Requests that were refused before they were answered, by reason.
        reloads: Indexes that were opened anew, by outcome.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Histogram(
            "embedkit_request_seconds", "Time to answer a request.",
            ("method", "route", "status"), registry=self._registry, buckets=_SECONDS,
        )  # fmt: skip
        self._stages = Histogram(
            "embedkit_stage_seconds", "Time of one stage of a request.",
            ("stage",), registry=self._registry, buckets=_SECONDS,
        )  # fmt: skip
        self.batch_size = Histogram(
            "embedkit_batch_images", "Images per batch of the engine.",
            registry=self._registry, buckets=_IMAGES,
        )  # fmt: skip
        self.queue = Gauge(
            "embedkit_queue_images", "Images that wait to be embedded.", registry=self._registry
        )
        self.connections = Gauge(
            "embedkit_connections", "Open connections.", registry=self._registry
        )
        self.refused = Counter(
            "embedkit_refused", "Refused requests.", ("reason",), registry=self._registry
        )
        self.reloads = Counter(
            "embedkit_reloads", "Indexes that were opened anew.", ("outcome",),
            registry=self._registry,
        )  # fmt: skip
        self._images = Gauge(
            "embedkit_index_images", "Images of an index.", ("index",), registry=self._registry
        )

    def stage(self, name: str) -> Histogram:
        """The times of a stage: ``read``, ``wait``, ``embed`` or ``search``."""
        return self._stages.labels(name)

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Adds an answered request."""
        self._requests.labels(method, route, str(status)).observe(seconds)

    def set_images(self, index: str, count: int) -> None:
        """Sets the number of images of an index."""
        self._images.labels(index).set(count)

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)
