"""The pictures of a prompt, changed: blurred, without detail, or another picture of the same size. Knows no engine.

Every changed picture is made from a stored canonical one in the same limited child process as an upload, keeps its size
in pixels, so that it takes the same places in the prompt, and is stored by its hash.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from components.core.answers import ImageRecord
from components.core.errors import InputError
from components.core.reliance import ChangedPicture, PictureChange
from components.storage.images import Edit, ImageStore

_BLUR_SHARE = 16  # the blur's radius is this part of the longer side
_SMALL_SHARE = 8  # each side is divided by this


class PictureChanger:
    """Changes pictures; ``samples`` are the files that may stand in for another picture. Calls block."""

    def __init__(self, images: ImageStore, samples: Sequence[Path]) -> None:
        self._images, self._samples = images, tuple(samples)

    def change(self, pictures: Sequence[ImageRecord], how: PictureChange) -> tuple[ChangedPicture, ...]:
        """What stands in for each picture, in order.

        Raises:
            InputError: there are not enough other pictures. MediaError, StorageError: a picture can't be made.
        """
        if how == "swapped":
            return self._swapped(pictures)
        change = {"removed": self._removed, "blurred": self._blurred, "small": self._small}[how]
        return tuple(change(picture) for picture in pictures)

    def _removed(self, picture: ImageRecord) -> ChangedPicture:
        return _changed(picture, None, "removed")

    def _blurred(self, picture: ImageRecord) -> ChangedPicture:
        radius = max(1, round(max(picture.width, picture.height) / _BLUR_SHARE))
        shown = self._images.edited(picture.sha256, Edit(blur_radius=radius))
        return _changed(picture, shown, f"blurred (Gaussian, {radius} pixels)")

    def _small(self, picture: ImageRecord) -> ChangedPicture:
        width, height = (max(1, round(side / _SMALL_SHARE)) for side in (picture.width, picture.height))
        shown = self._images.edited(picture.sha256, Edit(width=width, height=height, and_back=True))
        return _changed(picture, shown, f"scaled down to {width} × {height} pixels and back")

    def _swapped(self, pictures: Sequence[ImageRecord]) -> tuple[ChangedPicture, ...]:
        mine = {picture.sha256 for picture in pictures}
        others = [
            sample for path in self._samples if (sample := self._images.ingest(path, path.name)).sha256 not in mine
        ]
        if not others:
            raise InputError(
                "There is no other picture to swap in.", "Choose removed, blurred or small.", field="picture"
            )
        return tuple(self._fitted(picture, others[index % len(others)]) for index, picture in enumerate(pictures))

    def _fitted(self, picture: ImageRecord, other: ImageRecord) -> ChangedPicture:
        shown = self._images.edited(other.sha256, Edit(width=picture.width, height=picture.height))
        return _changed(picture, shown, f"swapped for “{other.name}” at {picture.width} × {picture.height} pixels")


def _changed(picture: ImageRecord, shown: str | None, words: str) -> ChangedPicture:
    return ChangedPicture(original_sha256=picture.sha256, original_name=picture.name, shown_sha256=shown, words=words)
