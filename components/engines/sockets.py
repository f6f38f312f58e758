"""Making the path free on which a server will listen (F08): vLLM itself never removes a stale socket."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from components.core.errors import EngineStartError

MAX_PATH_BYTES = 99  # the kernel's limit is 107; vLLM wants room


def free_socket_path(path: Path) -> None:
    """Make the folder (0700) and remove our own stale socket. Blocks for a moment.

    Raises:
        EngineStartError: the path is too long, or something else than a dead socket of ours is there.
    """
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise EngineStartError(
            f"The socket path {path} is longer than {MAX_PATH_BYTES} bytes.", "Choose a shorter --state-dir."
        )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.getuid():
        raise EngineStartError(
            f"{path} is in the way: it is not a socket of ours.", "Look what it is, move it away and start again."
        )
    if _somebody_listens(path):
        raise EngineStartError(
            f"Another program already listens on {path}.", "Stop it, or use another --state-dir, and start again."
        )
    path.unlink()


def _somebody_listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:  # a full queue, no permission: somebody is there
            return True
    return True
