"""Everything that is kept, opened together: the state folder's lock, the shared folder, the database, the files."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from components.core.errors import AppError
from components.settings import Settings
from components.storage.blobs import BlobStore
from components.storage.database import Database
from components.storage.images import ImageLimits, ImageStore
from components.storage.repeats import RepeatRepository
from components.storage.shared_folder import SharedFolder
from components.storage.state_lock import StateLock
from components.storage.traces import TraceRepository

_LOG = logging.getLogger(__name__)
_WATCH_S = 3.0  # between two looks whether another app has died


@dataclass(frozen=True)
class Records:
    """One app's, from ``open_records`` to ``close``."""

    lock: StateLock
    shared: SharedFolder
    database: Database
    blobs: BlobStore
    traces: TraceRepository
    repeats: RepeatRepository
    images: ImageStore

    def end_open(self, living: frozenset[str]) -> None:
        """End the answers and repeats that are open in none of these apps."""
        self.traces.recover(living)
        self.repeats.recover(living)

    async def watch_others(self) -> None:
        """Until cancelled: end what another app of the same records left open when it died."""
        while True:
            await asyncio.sleep(_WATCH_S)
            try:
                await asyncio.to_thread(self.shared.bury, self.end_open)
            except (AppError, OSError):
                _LOG.warning("what a dead app left open could not be ended yet", exc_info=True)

    def close(self) -> None:
        """Close them and let another app have the state folder."""
        self.database.close()
        self.shared.leave()
        self.lock.release()


def open_records(settings: Settings) -> Records:
    """Take the state folder and open what it keeps; what a dead app left open is ended.

    Raises:
        StorageError: the state folder or the database can't be used.
    """
    lock = StateLock(settings.state_dir)
    lock.acquire()
    shared = SharedFolder(settings.files_dir)
    living = shared.arrive()
    database = Database(settings.records_url, app_id=shared.app_id)
    database.open()
    if settings.database_url:
        shared.check_belongs(database)
    blobs = BlobStore(settings.files_dir / "blobs")
    images = ImageStore(blobs, ImageLimits(max_bytes=settings.image_max_bytes), database)
    records = Records(
        lock, shared, database, blobs, TraceRepository(database, blobs), RepeatRepository(database), images
    )
    records.end_open(living)
    shared.settled()
    return records
