"""Compares pairs of images in processes.

A comparison is hundreds of short calls, between which it holds the interpreter lock (GIL): beyond
a few threads of one process, more of them only wait.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from embedkit.decode.time_limit import IMAGE_SECONDS, TIME_IS_UP, too_slow
from embedkit.dedup.verification.batch import PairComparer
from embedkit.dedup.verification.geometric import Evidence
from embedkit.dedup.verification.keypoints import Keypoints
from embedkit.errors import WorkerError
from embedkit.sources.shard_plan import record_to_json
from embedkit.utils.line_process import CrashedError, LineProcess, NotStartedError
from embedkit.utils.threads import usable_cores

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from embedkit.dedup.verification.batch import Compares
    from embedkit.extraction.source_images import OriginalImages

    Pair = tuple[int, int]
    Kind = Literal["evidence", "keypoints"]
    Found = Evidence | Keypoints | None

__all__ = ["ProcessComparer"]

_MODULE = "embedkit.dedup.verification.comparing_process"
_FEW_CORES = 2  # for so many, threads are nearly as fast, and read no image twice
_MOST = 32  # processes: more would wait for each other, as pairs come 128 at a time
# Of fewer images, threads have compared most before processes have started; for few cores.
_FEWEST_IMAGES, _FEWEST_FOR_FEW = 300, 5000
_ATTEMPTS = 3  # before an image or a pair that ends its process gets no evidence
_OVERLOAD = 1.25  # of the mean load, for a process that has read an image already
_log = logging.getLogger("embedkit")


class ProcessComparer:
    """Compares pairs as ``PairComparer`` does; use it as a context manager.

    If an image crashes a process, or hangs it, only its pairs get no evidence.

    Args:
        sources: The images of the store, and of the other one.
        names: Of each image, by its number: which source has it, and its id.
        count: Processes.
        image_timeout: Seconds that decoding an image may take; 0 is no limit.
    """

    def __init__(
        self,
        sources: Sequence[OriginalImages],
        names: Sequence[tuple[int, str]],
        count: int,
        image_timeout: float = IMAGE_SECONDS,
    ) -> None:
        self._sources, self._names, self._count = sources, names, count
        self._timeout = image_timeout
        self._processes: list[LineProcess] = []
        self._reader: dict[int, int] = {}  # which process has read an image
        self._unusable: set[int] = set()  # images that end a process
        self._stack = ExitStack()

    @classmethod
    def if_worthwhile(
        cls, sources: Sequence[OriginalImages], names: Sequence[tuple[int, str]]
    ) -> Self | None:
        """None where threads are as fast, or where only this process can read the images."""
        count = min(usable_cores(), _MOST)
        fewest = _FEWEST_IMAGES if count > _FEW_CORES else _FEWEST_FOR_FEW
        if count < 2 or len(names) < fewest:
            return None
        if getattr(sys, "frozen", False):  # a program in one file would start itself
            return None
        if any(source.record(name).kind == "memory" for source in sources for name in source):
            return None
        return cls(sources, names, count)

    def __enter__(self) -> Compares:
        settings = {
            "policies": [source.policy.to_config() for source in self._sources],
            "processes": self._count,
            "timeout": self._timeout,
        }
        try:
            for _ in range(self._count):
                self._processes.append(LineProcess(_MODULE, settings))
                self._stack.callback(self._processes[-1].end)
            for process in self._processes:
                process.start()
        except NotStartedError as exc:
            self._end(at_once=True)
            _log.warning(
                "pixels are compared in threads, which takes longer: a process could not start "
                "(%s)", exc,
            )  # fmt: skip
            return self._stack.enter_context(PairComparer(self._pixels, self._count))
        except BaseException:
            self._end(at_once=True)
            raise
        self._pool = self._stack.enter_context(ThreadPoolExecutor(self._count, "verify"))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end(at_once=error is not None)

    def _end(self, *, at_once: bool) -> None:
        if at_once:
            for process in self._processes:
                process.kill()
        self._stack.close()

    def _pixels(self, image: int) -> Any:
        side, name = self._names[image]
        return self._sources[side](name)

    def __call__(self, pairs: Sequence[Pair]) -> list[Evidence | None]:
        """The evidence of each pair; None where one of its images can't be read."""
        return cast("list[Evidence | None]", self._found(pairs, "evidence"))

    def keypoints(self, images: Sequence[int]) -> list[Keypoints | None]:
        """Those of images; None where one can't be read."""
        pairs = [(image, image) for image in images]
        return cast("list[Keypoints | None]", self._found(pairs, "keypoints"))

    def _found(self, pairs: Sequence[Pair], kind: Kind) -> list[Found]:
        """The evidence of each pair, or the keypoints of its first image."""
        places = self._shares(pairs)
        shares = [[pairs[place] for place in share] for share in places]
        found: list[Found] = [None] * len(pairs)
        answers = [
            self._pool.submit(self._found_in, process, share, kind)
            for process, share in zip(self._processes, shares, strict=True)
        ]
        wait(answers)  # a process belongs to one share at a time, even where another share fails
        for share, answer in zip(places, answers, strict=True):
            for place, one in zip(share, answer.result(), strict=True):
                found[place] = one
        return found

    def _shares(self, pairs: Sequence[Pair]) -> list[list[int]]:
        """The places of the pairs that each process compares: mostly it has read an image of them.

        Which process compares a pair changes nothing but the time.
        """
        shares: list[list[int]] = [[] for _ in range(self._count)]
        most = max(_OVERLOAD * len(pairs) / self._count, 1)
        for place, pair in enumerate(pairs):
            readers = Counter(self._reader[one] for one in pair if one in self._reader)
            free = [one for one, _ in readers.most_common() if len(shares[one]) < most]
            taken = free[0] if free else min(range(self._count), key=lambda one: len(shares[one]))
            shares[taken].append(place)
            for one in pair:
                self._reader.setdefault(one, taken)
        return shares

    def _found_in(self, process: LineProcess, pairs: Sequence[Pair], kind: Kind) -> list[Found]:
        usable = [pair for pair in pairs if self._unusable.isdisjoint(pair)]
        try:
            found = self._ask(process, usable, kind) if usable else []
        except CrashedError:  # at one of the images, or by somebody else
            return self._found_one_by_one(process, pairs, kind)
        evidence = dict(zip(usable, found, strict=True))
        return [evidence.get(pair) for pair in pairs]

    def _found_one_by_one(
        self, process: LineProcess, pairs: Sequence[Pair], kind: Kind
    ) -> list[Found]:
        """Finds the images that end a process, each compared with itself; then asks pair by pair.

        What ends it by taking too long is tried once, and everything else a few times: the system
        may have killed the process for memory.
        """
        for image in dict.fromkeys(image for pair in pairs for image in pair):
            if image not in self._unusable and (
                problem := self._tried(process, (image, image), "evidence")[1]
            ):
                self._unusable.add(image)
                _log.warning("%s: can't be compared: %s", self._names[image][1], problem)
        return [
            self._tried(process, pair, kind)[0] if self._unusable.isdisjoint(pair) else None
            for pair in pairs
        ]

    def _tried(self, process: LineProcess, pair: Pair, kind: Kind) -> tuple[Found, str]:
        """What is found of a pair, and how it ends the process each time, if it does."""
        problem = ""
        for _ in range(_ATTEMPTS):
            try:
                return self._ask(process, [pair], kind)[0], ""
            except CrashedError as exc:
                problem = f"it crashes its process ({exc})"
                if str(exc) == TIME_IS_UP:
                    return None, too_slow(self._timeout)
        return None, problem

    def _ask(self, process: LineProcess, pairs: Sequence[Pair], kind: Kind) -> list[Found]:
        images = {one: self._described(one) for pair in pairs for one in pair}
        try:
            answer = process.ask([kind, list(images.items()), pairs])
        except NotStartedError as exc:
            raise WorkerError(
                f"a process that compares images could not start ({exc}); what is compared is "
                "kept: run the same command again to go on"
            ) from exc
        read = Keypoints.from_json if kind == "keypoints" else Evidence.from_json
        return [None if one is None else read(one) for one in answer]

    def _described(self, image: int) -> list[Any]:
        """What a process needs to read an image: its source, id, record and hash."""
        side, name = self._names[image]
        source = self._sources[side]
        if name not in source:
            return [side, name, None, None]
        expected = source.expected_hash(name)
        record = record_to_json(source.record(name))
        return [side, name, record, None if expected is None else expected.hex()]
