"""Brings a store up to date with its source: embeds only what is new, changed or failed."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit._version import __version__
from embedkit.engines import choose_engine
from embedkit.errors import MissingExtraError, StoreError, StoreMismatchError
from embedkit.extraction.job import (
    Job,
    describe,
    load_chosen,
    omitted_columns_of,
    open_listing,
    provenance_of,
    scan_for,
)
from embedkit.extraction.outcome import unlabelled
from embedkit.extraction.run_plan import Extraction, one_device
from embedkit.extraction.runner import ExtractResult
from embedkit.extraction.source_changes import State, compare_with_source, shards_of
from embedkit.extraction.store_settings import WAY_OUT, config_of
from embedkit.extraction.update_outcome import UpdateResult, arrange, only_retried, recovered
from embedkit.sources.dataset import is_dataset
from embedkit.sources.shard_plan import Plan
from embedkit.store.format import SHARD_ROWS
from embedkit.store.merge_shards import merged_engine
from embedkit.store.next_generation import NextGeneration
from embedkit.store.object_cache import exists
from embedkit.store.object_store import place_of
from embedkit.store.store import EmbeddingStore
from embedkit.store.update_target import target_of
from embedkit.store.working_dir import PartialStore
from embedkit.utils.timing import timed
from embedkit.utils.urls import display_name, object_url

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from embedkit.engines import EngineChoice
    from embedkit.extraction.config import ExtractConfig, RunConfig
    from embedkit.extraction.source_changes import Comparison
    from embedkit.sources import Source
    from embedkit.sources.open import Spec
    from embedkit.store.arrangement import Arrangement
    from embedkit.store.format import StoreMeta
    from embedkit.types import ImageRecord

__all__ = ["Update", "opened_update", "update_store"]

_LISTING = "listing"  # the folder of all that the source lists
_EMBEDDED = (State.ADDED, State.CHANGED, State.FAILED)
_IGNORED = (
    "plan_hash", "embedkit_version", "weights", "engine", "head_applies", "source", "roots",
    "labels_from", "same_rows_as", "listing", "generation", "omitted_columns",
)  # fmt: skip
_log = logging.getLogger("embedkit")


def update_store(
    source: Spec | Sequence[Spec],
    output: Path,
    given: ExtractConfig,
    run: RunConfig,
    stop: threading.Event | None,
) -> UpdateResult:
    """Updates a store; see ``extract``.

    Args:
        source: The images that the store shall hold.
        output: The store.
        given: The settings that the caller gave; those at their defaults are the store's.
        run: What to do, and how to run.
        stop: Set to save what is embedded and return early; the store stays as it was.

    Raises:
        StoreMismatchError: A given setting contradicts the store.
        StoreError: There is no store, or it shares no image with the source.
    """
    with opened_update(source, output, given, run) as update:
        return update.go(stop)


@contextmanager
def opened_update(
    source: Spec | Sequence[Spec], output: Path, given: ExtractConfig, run: RunConfig
) -> Iterator[Update]:
    """An update that is ready to begin, under the store's lock; arguments and errors as above."""
    if not exists(output):
        raise StoreError(f"{display_name(output)}: no such file or folder; extract it first")
    url = object_url(output)
    place = output if url is None else place_of(url, run.work_dir)
    with PartialStore.locked(place) as partial, EmbeddingStore.open(output) as store:
        if store.meta.part:
            raise StoreError(
                f"{store.address}: holds part {store.meta.part['number']} of "
                f"{store.meta.part['of']} of its source; merge the parts first, then update the "
                "whole store"
            )
        _refuse_other_run(partial, store)
        columns = {name for shard in store.structures for name in shard.columns}
        config = config_of(store.address, store.meta, columns, given.changed)
        sources, listing = open_listing(source, output, config)
        if run.update and not run.keep_removed:
            _refuse_fewer_sources(store, provenance_of(sources, config)["source"])
        yield Update(output, partial, store, config, run, sources, listing)


def _refuse_other_run(partial: PartialStore, store: EmbeddingStore) -> None:
    """Discards what a killed update left that can't be used, and refuses a run of another kind."""
    updates, frozen = partial.updated_fingerprint(), partial.frozen_meta()
    if frozen and not updates and frozen[0].to_config() != store.meta.to_config():
        raise StoreError(
            f"{partial.folder}: holds an unfinished run for another store; finish it without "
            "update=True, or delete this folder"
        )
    if updates != store.fingerprint:
        partial.clear()


def _refuse_fewer_sources(store: EmbeddingStore, source: Sequence[str]) -> None:
    missing = [name for name in store.meta.source if name not in source]
    if missing:
        raise StoreError(
            f"{store.address}: was made of {', '.join(store.meta.source)}, and an update without "
            f"{missing[0]} would drop its images: give all sources, or keep_removed=True"
        )


@dataclass(frozen=True)
class Update:
    """An update of one store.

    Attributes:
        output: The path of the store, or its URL.
        partial: The working folder.
        store: The store as it is.
        config: All settings, mostly the store's.
        run: What to do, and how to run.
        sources: The sources.
        listing: Lists them.
    """

    output: Path
    partial: PartialStore
    store: EmbeddingStore
    config: ExtractConfig
    run: RunConfig
    sources: Sequence[Spec]
    listing: Source

    def go(self, stop: threading.Event | None) -> UpdateResult:
        """Compares, embeds and writes."""
        listed, found = self.compare()
        wanted = np.isin(found.states, [State.FAILED] if self.only_failed else _EMBEDDED)
        if not wanted.any():
            return self._write(listed, found, wanted, None, None)
        plan = self._plan(listed, wanted)
        embedded = self._embed(plan, stop)
        if not embedded.complete:
            return UpdateResult(**_fields(embedded), generation=self.store.meta.generation)
        self.partial.write_manifest(plan.num_shards)
        with EmbeddingStore.open(self.partial.folder) as new:
            return self._write(listed, found, wanted, new, embedded)

    def compare(self) -> tuple[Plan, Comparison]:
        """Lists the source and compares the store with it.

        Raises:
            StoreError: They have no image in common.
        """
        listed = self._list()
        with timed("compared with the source"):
            found = compare_with_source(
                self.store, listed.records(), check_content=self.run.check_content, all_names=True
            )
        self._refuse_nothing_left(found)
        return listed, found

    @property
    def only_failed(self) -> bool:
        """Whether the failed images are tried again and nothing else is changed."""
        return self.run.retry_failed and not self.run.update

    def _list(self) -> Plan:
        _log.info("listing %s", ", ".join(map(str, self.sources)))
        folder = self.partial.path(_LISTING)
        folder.mkdir(exist_ok=True)
        with timed("listed"):
            return Plan.freeze(scan_for(self.output, self.listing), folder, SHARD_ROWS)

    def _refuse_nothing_left(self, found: Comparison) -> None:
        """Refuses a source that shares no image with the store: most likely it is another one."""
        keeps_all = self.only_failed or self.run.keep_removed
        if len(self.store) and not (found.rows >= 0).any() and not keeps_all:
            raise StoreError(
                f"{self.store.address}: none of its {len(self.store):,} images is in the source, "
                f"such as {self.store.ids[0]}; give the source by the same name from the same "
                "folder, or embed another one with overwrite=True"
            )

    def _plan(self, listed: Plan, wanted: NDArray[np.bool_]) -> Plan:
        """The plan of the images to embed; that of an interrupted run if it is the same.

        A run that stored other columns isn't resumed.
        """

        def records() -> Iterator[ImageRecord]:
            return listed.records(wanted)

        if self.partial.is_begun:
            begun, frozen = Plan.open(self.partial.folder), self.partial.frozen_meta()
            has_these_columns = frozen is None or (
                [*frozen[0].omitted_columns] == omitted_columns_of(self.config)
            )
            is_same = begun is not None and begun.digest == Plan.draft(records()).digest
            if begun is not None and is_same and has_these_columns:
                return begun
            self.partial.clear(_LISTING)
        return Plan.freeze(records(), self.partial.folder, SHARD_ROWS)

    def _embed(self, plan: Plan, stop: threading.Event | None) -> ExtractResult:
        """Embeds the plan, with the settings of the store, into the working folder."""
        store, config = self.store, self.config
        choice = self._choice()
        backbone = load_chosen(config)
        meta = describe(backbone, config, self.sources)
        if differences := store.meta.differences(meta, ignore=_IGNORED):
            is_file = store.meta.weights.startswith("file:")
            way_out = "pass the store's weights by weights=FILE" if is_file else WAY_OUT
            raise StoreMismatchError(store.address, differences, way_out=way_out)
        in_process = any(map(is_dataset, self.sources))
        job = Job(self.output, self.listing, backbone, meta, config, in_process)
        run = replace(self.run, processes=False) if in_process else self.run
        engine = {name: one for name, one in store.meta.engine.items() if name != "others"}
        frozen = self.partial.frozen_meta()
        extraction = Extraction(
            self.partial, job, plan, choice, run, engine, updates=store.fingerprint
        )
        return extraction.embed(None if frozen is None else frozen[0], stop)

    def _choice(self) -> EngineChoice:
        config, path = self.config, self.store.address
        if config.precision == "int8":
            raise StoreError(
                f"{path}: was embedded in int8, calibrated with images of that run, so new images "
                "can't be embedded alike; overwrite=True embeds everything anew"
            )
        try:
            choice = choose_engine(
                config.engine, config.device, config.precision, config.batch_size
            )
        except (ValueError, MissingExtraError) as exc:
            raise StoreError(
                f"{path}: was embedded by {config.engine} on {config.device}, which isn't possible "
                f"here ({exc}); extract the new images into another store, and merge"
            ) from exc
        in_process = any(map(is_dataset, self.sources)) or not isinstance(config.backbone, str)
        return one_device(choice, config.device) if in_process else choice

    def _write(
        self,
        listed: Plan,
        found: Comparison,
        wanted: NDArray[np.bool_],
        new: EmbeddingStore | None,
        embedded: ExtractResult | None,
    ) -> UpdateResult:
        """Writes the store, if anything is different, and tidies up."""
        store, run = self.store, self.run
        images = arrange(found, wanted, store, new, listed.records(wanted))
        again = recovered(images, found.states, len(store), new)
        before = found.rows
        if self.only_failed:
            before = before[found.states != State.ADDED]
            images = only_retried(images, found.states)
        keeps_all = self.only_failed or run.keep_removed
        if keeps_all and len(found.unlisted):
            shards = shards_of(store, found.unlisted)
            images = images.with_kept(found.unlisted, shards, before)
        following = NextGeneration(
            store, new, images, self._meta(listed, images, new), self._has_labels(listed, new),
            run.shard_rows,
        )  # fmt: skip
        written = not following.is_as_before
        if written:
            self._refuse_empty(following)
            with timed("wrote the store"):
                following.write(target_of(store, self.partial))
        self.partial.discard()
        counts = following.counts
        result = ExtractResult.of(
            self.output, counts, complete=True,
            resumed=counts.found - (embedded.found if embedded else 0),
            seconds=embedded.seconds if embedded else 0.0,
            images_per_second=embedded.images_per_second if embedded else 0.0,
        )  # fmt: skip
        result = replace(result, unlabelled=unlabelled(listed))
        changes = {} if self.only_failed else _lists(found, keeps_removed=run.keep_removed)
        generation = following.meta.generation if written else store.meta.generation
        return UpdateResult(
            **_fields(result), written=written, generation=generation, recovered=again, **changes
        )

    def _refuse_empty(self, following: NextGeneration) -> None:
        if not following.counts.embedded:
            raise StoreError(
                f"{self.store.address}: not one image of the source can be embedded now, so the "
                "store is left as it is"
            )

    def _meta(self, listed: Plan, images: Arrangement, new: EmbeddingStore | None) -> StoreMeta:
        """The metadata of the store after the update."""
        store = self.store
        rows = images.rows[images.rows >= 0]
        has_same_rows = np.array_equal(rows, np.arange(len(store)))
        meta = replace(
            store.meta,
            generation=store.meta.generation + 1,
            embedkit_version=__version__,
            engine=merged_engine([store.meta, *([new.meta] if new else [])]),
            same_rows_as=[*store.meta.same_rows_as, store.fingerprint] if has_same_rows else [],
            omitted_columns=omitted_columns_of(self.config),
        )
        if self.only_failed:
            return meta
        now = provenance_of(self.sources, self.config)
        if self.run.keep_removed:
            for name in ("source", "roots"):
                now[name] = list(dict.fromkeys([*getattr(store.meta, name), *now[name]]))
        if store.meta.labels_from:
            now["listing"] = store.meta.listing
        return replace(meta, plan_hash=listed.digest, **now)

    def _has_labels(self, listed: Plan, new: EmbeddingStore | None) -> bool:
        if self.only_failed or self.store.meta.labels_from:
            return self.store.has_labels or bool(new and new.has_labels)
        return listed.has_labels or (self.run.keep_removed and self.store.has_labels)


def _lists(found: Comparison, *, keeps_removed: bool) -> dict[str, Any]:
    kinds = ["added", "changed", "relabeled"] + ([] if keeps_removed else ["removed"])
    return {kind: found.changes.names(kind) for kind in kinds}


def _fields(result: ExtractResult) -> dict[str, Any]:
    return {one.name: getattr(result, one.name) for one in fields(result)}
