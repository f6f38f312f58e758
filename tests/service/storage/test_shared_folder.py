"""Who is in a shared folder and who leads: real processes, ended in every way."""

from __future__ import annotations

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
print(folder.arrive(), flush=True)
folder.settled()
print(folder.leads(), flush=True)
sys.stdin.read()
"""


def test_one_leads_and_another_takes_over_when_it_is_killed(tmp_path: Path) -> None:
    root = tmp_path / "shared"
    argv = [sys.executable, "-c", OTHER, str(root)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert [other.stdout.readline() for _ in range(2)] == ["True\n", "True\n"]
        mine = SharedFolder(root)
        assert not mine.arrive(), "the other one is there: what is open may be its own"
        mine.settled()
        assert not mine.leads()
        other.send_signal(signal.SIGKILL)
        other.wait(10)
        assert mine.leads()
        assert mine.leads(), "it stays so"
        third = SharedFolder(root)
        assert not third.arrive()
        third.settled()
        assert not third.leads()
        mine.leave()
        assert third.leads()
        third.leave()
    assert SharedFolder(root).arrive()


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
