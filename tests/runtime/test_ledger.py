"""The ledger: sessions add up to runs, whatever ended them, and none can fail for it."""

from pathlib import Path

import pytest

from telepath.runtime.ledger import last_run, session


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "home" / "sessions.csv"


def work(ledger: Path, *outcomes: bool, stage: str = "train", fingerprint: str = "f") -> None:
    for good in outcomes:
        try:
            with session(ledger, stage, fingerprint):
                if not good:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            assert not good


def test_a_run_has_all_its_sessions(ledger: Path) -> None:
    work(ledger, False, False, True)
    run = last_run(ledger, "train", "f")
    assert [one.finished for one in run] == [False, False, True]
    assert all(one.seconds >= 0 and one.mebibytes > 20 for one in run)


def test_the_last_run_that_ended_counts(ledger: Path) -> None:
    work(ledger, True, False, True, False)
    assert [one.finished for one in last_run(ledger, "train", "f")] == [False, True]


def test_an_unfinished_run_and_other_inputs_do_not(ledger: Path) -> None:
    assert last_run(ledger, "train", "f") == []
    work(ledger, False)
    work(ledger, True, fingerprint="g")
    work(ledger, True, stage="label")
    assert last_run(ledger, "train", "f") == []


def test_a_damaged_line_costs_only_itself(ledger: Path) -> None:
    work(ledger, False)
    with ledger.open("ab") as file:
        file.write(b"train,f,not a number,1,1\ntrain,f,nan,1,1\ntrain,f,1,inf,1\ntrain,f\n\xff\x00,\n")
    work(ledger, True)
    assert [one.finished for one in last_run(ledger, "train", "f")] == [False, True]


def test_where_nothing_can_be_written_work_goes_on(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where a folder should be")
    done = []
    with session(tmp_path / "home" / "sessions.csv", "train", "f"):
        done.append(1)
    assert done
