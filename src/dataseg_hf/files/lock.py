"""One command at a time writes into a folder.

A command that writes holds a lease on the folder: a file in it with the process and its host, which
a thread renews. A lease is taken over where its process is dead, or, on another host, where nobody
has renewed it for `LEASE_SECONDS`.
"""

import json
import logging
import os
import socket
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from filelock import SoftFileLease, Timeout

from ..errors import ConfigError
from .writing import replace_file

LOG = logging.getLogger(__name__)

LOCK_FILE, OWNER_FILE = "in_use.lock", "in_use.json"
LEASE_SECONDS = 60.0
_PATIENCE = 2.0  # seconds in which another command may look at the lock, or fill it


class FolderInUseError(ConfigError):
    """Another command writes into the folder; the message names the setting and that command."""


class FolderLock:
    """The lease on a folder, to be released by the one who took it."""

    def __init__(self, folder: Path, lease: SoftFileLease) -> None:
        self._folder, self._lease = folder, lease

    def __enter__(self) -> "FolderLock":
        return self

    def __exit__(self, *ending: object) -> None:
        self.release()

    def release(self) -> None:
        """Let others write there; nothing where it is released already."""
        if self._lease.is_locked:
            (self._folder / OWNER_FILE).unlink(missing_ok=True)
            self._lease.release()


def lock_folder(folder: Path, key: str) -> FolderLock:
    """Take the lease on a folder, which must exist.

    Args:
        key: the setting or option that names the folder.

    Raises:
        FolderInUseError: while another command has it. Whether one on another host is alive takes
            LEASE_SECONDS to find out.
        OSError: where the folder cannot be written.
    """
    # the heartbeat and the release may come from different threads
    lease = SoftFileLease(
        folder / LOCK_FILE, lease_duration=LEASE_SECONDS, thread_local=False, is_singleton=False
    )
    try:
        lease.acquire(timeout=_PATIENCE)
    except Timeout:
        _wait_for_a_sign(lease, folder, key)
    try:
        replace_file(folder / OWNER_FILE, json.dumps(_this_process()) + "\n")
    except BaseException:
        lease.release()
        raise
    return FolderLock(folder, lease)


def refuse_in_use(folder: Path, key: str) -> None:
    """Refuse a folder into which another command writes; as `lock_folder`, but nothing is kept."""
    if (folder / LOCK_FILE).exists():
        lock_folder(folder, key).release()


def _wait_for_a_sign(lease: SoftFileLease, folder: Path, key: str) -> None:
    """Take the lease of a host that is gone; FolderInUseError if its command is alive, or here."""
    if _owner(folder).get("place") != _place():
        LOG.info(f"{folder} was in use by {_described(folder)}: waiting for a sign of life.")
        try:
            lease.acquire(timeout=LEASE_SECONDS + _PATIENCE)
            return
        except Timeout:
            pass
    raise FolderInUseError(
        f"{key}: '{folder}' is in use by {_described(folder)}; wait for its end, stop it, or name "
        "another folder"
    )


def _this_process() -> dict[str, str | int]:
    return {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:2]]),
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "place": _place(),
        "since": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _place() -> str:
    """Where process numbers mean the same: the host and, on Linux, the container."""
    try:
        container = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return socket.gethostname()
    return f"{socket.gethostname()} {container}"


def _owner(folder: Path) -> dict[str, Any]:
    try:
        owner = json.loads((folder / OWNER_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _described(folder: Path) -> str:
    owner = _owner(folder)
    if not owner:
        return f"another command (its {LOCK_FILE} is there)"
    return (
        f"'{owner.get('command')}', process {owner.get('pid')} on {owner.get('host')}, since "
        f"{owner.get('since')}"
    )
