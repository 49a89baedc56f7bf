"""The desk's cache: answers kept by the hash of everything they depend on, compared with their own hash when read.

The hashes detect corruption, not malice: in the required check no cache is carried between runs (`folder` is None).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cache:
    """Content-addressed files below `folder`; None keeps nothing. Safe for several processes at once."""

    folder: Path | None

    def get(self, key: str) -> bytes | None:
        """Return what `put` kept under the key (hex digits); None when there is nothing, or when it is damaged."""
        if self.folder is None:
            return None
        try:
            data = (self.folder / key[:2] / key).read_bytes()
        except OSError:
            return None
        digest, _, payload = data.partition(b"\n")
        # Corrupt or torn: made again and overwritten.
        return payload if hashlib.sha256(key.encode() + payload).hexdigest().encode() == digest else None

    def put(self, key: str, payload: bytes) -> None:
        """Keep the payload. A full disk or a read-only cache makes the next run slower, not this one wrong."""
        if self.folder is None:
            return
        digest = hashlib.sha256(key.encode() + payload).hexdigest().encode()
        folder = self.folder / key[:2]
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=folder)
            with os.fdopen(handle, "wb") as file:
                file.write(digest + b"\n" + payload)
            Path(temporary).replace(folder / key)


def key_of(*parts: str | bytes) -> str:
    """Return the key of an answer that depends on exactly these parts, in order: 64 hex digits."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        digest.update(f"{len(data)}\0".encode() + data)
    return digest.hexdigest()
