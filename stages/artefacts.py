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
REPORTS = Path("reports")
