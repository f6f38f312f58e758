"""Who is in a shared folder and who leads: real processes, ended in every way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from components.core.errors import StorageError
from components.storage.database import Database
from components.storage.shared_folder import SharedFolder

pytestmark = pytest.mark.service
OTHER = """
import sys
from pathlib import Path
from components.storage.shared_folder import SharedFolder
folder = SharedFolder(Path(sys.argv[1]))
print(len(folder.arrive()), folder.app_id, flush=True)
folder.settled()
print(folder.leads(), flush=True)
sys.stdin.read()
"""


def test_one_leads_and_another_takes_over_when_it_is_killed(tmp_path: Path) -> None:
    root, ended = tmp_path / "shared", []
    argv = [sys.executable, "-c", OTHER, str(root)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        count, other_id = other.stdout.readline().split()
        assert (count, other.stdout.readline()) == ("0", "True\n")
        mine = SharedFolder(root)
        assert mine.arrive() == {other_id}, "what it has open is its own"
        mine.settled()
        assert not mine.leads()
        assert not mine.bury(ended.append), "it lives"
        other.send_signal(signal.SIGKILL)
        other.wait(10)
        assert mine.leads()
        assert mine.leads(), "it stays so"
        third = SharedFolder(root)
        assert third.arrive() == {mine.app_id}
        assert not mine.bury(ended.append), "who arrives does that"
        third.settled()
        fourth = SharedFolder(root)
        fourth.arrive()
        fourth.settled()
        os.close(fourth._present or 0)  # as if it had died: the kernel gives its lock back
        assert mine.bury(ended.append)
        assert ended == [{mine.app_id, third.app_id}], "what belongs to none of these is to be ended"
        assert not mine.bury(ended.append), "once"
        assert not third.leads()
        mine.leave()
        assert third.leads()
        third.leave()
    assert SharedFolder(root).arrive() == frozenset()


def test_a_bell_is_heard_by_all(tmp_path: Path) -> None:
    one, two = (SharedFolder(tmp_path).bell("news") for _ in range(2))
    assert two.rung() == 0
    one.ring()
    heard = two.rung()
    assert heard > 0
    assert two.rung() == heard
    two.ring()
    assert one.rung() > heard


def test_a_database_of_other_files_is_refused(tmp_path: Path, database_url: str) -> None:
    database = Database(database_url)
    database.open()
    try:
        first, second = SharedFolder(tmp_path / "one"), SharedFolder(tmp_path / "two")
        for folder in (first, second):
            folder.arrive()
            folder.settled()
        first.check_belongs(database)
        first.check_belongs(database)
        (second.root / "installation-id").write_text("of another database")
        with pytest.raises(StorageError, match="does not belong") as caught:
            second.check_belongs(database)
        assert "DIPTYCH_SHARED_DIR" in caught.value.hint
        second.leave()
        first.leave()
    finally:
        database.close()
