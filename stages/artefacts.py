"""Where every artefact of the pipeline lives, named once. dvc.yaml names the same paths."""

from pathlib import Path

DATA = Path("data")
CHECKED = DATA / "checked.txt"
SOURCE_SEEDS = DATA / "source" / "seed_episodes.npz"
SOURCE_AGENT = DATA / "source" / "agent.safetensors"
SOURCE_EPISODES = DATA / "source" / "episodes.npz"
SOURCE_CURVE = DATA / "source" / "curve.csv"
EXPLORATION = DATA / "target" / "exploration.npz"
EXPLORED_AGENT = DATA / "target" / "explored.safetensors"
BELIEF = DATA / "target" / "belief.safetensors"
LABELS = DATA / "target" / "labels.npz"
TARGET_AGENT = DATA / "target" / "agent.safetensors"
TARGET_ROUNDS = DATA / "target" / "rounds.csv"
TARGET_POLICIES = DATA / "target" / "policies.safetensors"
ORACLE_AGENT = DATA / "oracle" / "agent.safetensors"
ORACLE_CURVE = DATA / "oracle" / "curve.csv"
ORACLE_RETURNS = DATA / "oracle" / "returns.csv"
EVALUATION = DATA / "evaluation"
FACTS = EVALUATION / "facts.json"
RIVALS = DATA / "rivals"
REPORTS = Path("reports")
RECORDS = (Path("dvc.lock"), Path("rivals/dvc.lock"))
"""DVC's own, of what of the pipelines is done. The name is DVC's: they lock nothing."""


def rival_files(rival: str) -> tuple[Path, Path, Path]:
    """A rival's policy, its learning curve and its true returns."""
    folder = RIVALS / rival
    return folder / "policy.safetensors", folder / "curve.csv", folder / "returns.csv"


PADA_POLICY, PADA_CURVE, PADA_RETURNS = rival_files("pada")
