"""dvc.yaml and rivals/dvc.yaml name exactly the code that each stage consists of."""

from pathlib import Path

import pytest

from stages.dependencies import PIPELINES, ROOT, closure, differences, local_imports, pipeline_stages, yaml_style

PIPELINE = ROOT / PIPELINES[0]
needs_pipeline = pytest.mark.skipif(not PIPELINE.exists(), reason="there is no dvc.yaml yet")


@pytest.mark.parametrize("path", [ROOT / name for name in PIPELINES], ids=PIPELINES)
def test_the_code_entries_are_the_imports(path: Path) -> None:
    different = differences(yaml_style().load(path.read_text(encoding="utf-8")))
    assert not different, "run `python -m stages.dependencies`:\n" + "\n".join(different)


@needs_pipeline
def test_a_change_of_the_gap_code_never_reruns_the_source() -> None:
    names = {name for name, _, _ in pipeline_stages(yaml_style().load(PIPELINE.read_text(encoding="utf-8")))}
    for stage in sorted(names & {"collect_source", "train_source"}):
        assert "telepath/envs/gaps.py" not in closure(stage)


FILLED = {"stages/__init__.py": {"telepath/runtime/interrupt.py"}, "telepath/__init__.py": {"telepath/loading.py"}}
"""What decides no result: how a stage is started, and the door for those who use agents without the pipeline."""


def test_every_package_is_marked_by_an_empty_file() -> None:
    for package in ("telepath", "stages"):
        for folder in {path.parent for path in (ROOT / package).rglob("*.py")}:
            marker: Path = folder / "__init__.py"
            assert marker.exists(), f"{folder}: no __init__.py"
            if needs := FILLED.get(marker.relative_to(ROOT).as_posix()):
                assert local_imports(marker.relative_to(ROOT).as_posix()) == needs
                continue
            assert marker.read_text() == "", f"{marker}: a stage's dependencies do not list it, so it must be empty"
