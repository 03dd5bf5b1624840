"""One Dreamer in a process of its own, which makes an update whenever it is told to. ``benchmarks.updates`` starts it.

    python benchmarks/contenders.py NAME THREADS [CHECKOUT [DEVICE]]

Each runs in the Python it was installed in, so this file imports nothing before it knows who is asked for. On its
standard output it says, a JSON object a line, what it is (``ready``) or why it cannot be (``absent``), and then the
wall and CPU seconds of an update for every line that it reads. What a rival prints itself goes to standard error.

All get the same: state observations and actions as large as walker-walk's, 16 windows of 64 records, imagination of 15
steps from all 1024 of them, float32, eagerly, random numbers for data. Their batches are made beforehand. On a GPU
(DEVICE cuda) a step is many updates and a wait for their end.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

WINDOWS, RECORDS, HORIZON = 16, 64, 15
OBSERVATION, ACTION = 24, 6
GPU_UPDATES = 20
"""Of a step on a GPU, where a single update would be measured with its start and its end."""


class Contender(NamedTuple):
    """What is timed: ``step``, ``each`` times what is asked about, of so many floating-point ``operations`` in matrix
    products; ``warm``: steps before it counts.
    """

    step: Callable[[], Any]
    parameters: int = 0
    operations: int = 0
    each: int = 1
    warm: int = 2


def count(*modules: Any) -> int:
    """Trained parameters."""
    return sum(p.numel() for module in modules for p in module.parameters() if p.requires_grad)


def device() -> str:
    """Where to compute."""
    return os.environ["TELEPATH_DEVICE"]


def telepath(_: str, records: int = RECORDS, starts: int = WINDOWS * RECORDS) -> Contender:
    """Ours, from params.yaml but for the batch: replay sampling, world model, reward head, actor, critic."""
    from torch.utils.flop_counter import FlopCounterMode

    from telepath.runtime.device import limit_threads

    training = walker(records, starts)
    if device() == "cuda":
        return Contender(training.update, parameters_of(training))
    for _update in range(2):  # the behavior begins with the second one
        training.update()
    with FlopCounterMode(display=False) as counter:
        training.update()
    limit_threads()  # not before: the counter does not see what a second thread does
    return Contender(training.update, parameters_of(training), counter.get_total_flops())


def parameters_of(training: Any) -> int:
    """Trained parameters of one of ours."""
    behavior = training.agent.behavior
    return count(training.agent.model, training.reward, behavior.actor, behavior.critic)


def telepath_unrecorded(_: str) -> Contender:
    """Ours on a GPU, every kernel started by itself."""
    training = walker(RECORDS, WINDOWS * RECORDS)
    training.learner.recorded = None
    return Contender(training.update, parameters_of(training))


def telepath_together(_: str) -> Contender:
    """Eight of ours in one process, in turns, each on a stream of its own."""
    import torch

    from telepath.runtime.device import stream_of_its_own

    streams, trainings = [stream_of_its_own(torch.device(device())) for _ in range(TOGETHER)], []
    for stream in streams:
        with stream():
            trainings.append(walker(RECORDS, WINDOWS * RECORDS))

    def update() -> None:
        for training, stream in zip(trainings, streams, strict=True):
            with stream():
                training.update()

    return Contender(update, parameters_of(trainings[0]), each=TOGETHER)


TOGETHER = 8


def telepath_frames(_: str) -> Contender:
    """Ours from frames, convolutions included; TELEPATH_HALF decides of their precision."""
    training = walker(RECORDS, WINDOWS * RECORDS, observation="pixels")
    return Contender(training.update, parameters_of(training))


def telepath_small(_: str) -> Contender:
    """Ours with half the records a window and an eighth of the starts."""
    return telepath(_, 32, 128)


def policy(_: str) -> Contender:
    """Our policy, one environment, 100 decisions."""
    import numpy as np

    acting = walker(32, 128).agent.policy()
    acting.reset(1)
    observation = np.zeros((1, OBSERVATION), np.float32)
    return Contender(lambda: [acting.act(observation) for _ in range(100)], each=100)


def walker(records: int, starts: int, observation: Any = "state") -> Any:
    """A training with one episode of random actions in its replay."""
    from pathlib import Path

    from telepath.config import load
    from telepath.dreamer.training import OnlineTraining
    from telepath.envs.rollout import seed_episodes
    from telepath.envs.suite import Environment

    params = load(Path("params.yaml"))
    repeat = params.tasks["walker-walk"].action_repeat
    environment = Environment("walker-walk", repeat, 0, observation=observation)
    assert observation != "state" or (environment.observation_dim, environment.action_dim) == (OBSERVATION, ACTION)
    settings = params.dreamer.model_copy(update={"batch": WINDOWS, "length": records, "imagined": starts * HORIZON})
    steps = params.tasks["walker-walk"].source_steps
    episodes = seed_episodes(environment, 1, 0)
    online = params.source.training
    return OnlineTraining("walker-walk", environment, episodes, settings, online, steps=steps, seed=0, horizon=HORIZON)


def first_update(_: str) -> Contender:
    """Ours: the seed episodes of the default task and the first update with a behavior, from nothing."""
    from pathlib import Path

    from telepath.config import load
    from telepath.dreamer.training import OnlineTraining
    from telepath.envs.rollout import seed_episodes
    from telepath.envs.suite import Environment
    from telepath.runtime.device import keep_memory, limit_threads

    limit_threads()
    keep_memory()
    params = load(Path("params.yaml"))
    task = params.tasks[params.task]
    environment = Environment(params.task, task.action_repeat, 0)
    training = OnlineTraining(
        params.task,
        environment,
        seed_episodes(environment, params.source.seed_episodes, 0),
        params.dreamer,
        params.source.training,
        steps=task.source_steps,
        seed=0,
        horizon=task.horizon,
    )
    for _update in range(2):
        training.update()
    return Contender(training.update, warm=0)


def sgemm(_: str) -> Contender:
    """Matrix products alone: what the core can do."""
    import numpy as np

    size, times = 512, 20
    square, out = np.ones((size, size), np.float32), np.empty((size, size), np.float32)
    return Contender(lambda: [np.matmul(square, square, out=out) for _ in range(times)], operations=2 * size**3 * times)


def r2dreamer_compiled(checkout: str) -> Contender:
    """The same as it comes: compiled, and in half precision."""
    return r2dreamer(checkout, as_it_comes=True)


def r2dreamer(checkout: str, *, as_it_comes: bool = False) -> Contender:
    """NM512/r2dreamer with DreamerV3's size 1M, its default loss (no decoder), and without its float16."""
    sys.path.insert(0, checkout)
    dreamer: Any = __import__("dreamer")
    import torch
    from hydra import compose, initialize_config_dir
    from tensordict import TensorDict

    size = {"deter": 512, "hidden": 64, "discrete": 4, "depth": 4, "units": 64, "compile": as_it_comes}
    changes = ["env=dmc_proprio", f"device={device()}", *(f"model.{key}={value}" for key, value in size.items())]
    with initialize_config_dir(os.path.join(checkout, "configs"), version_base=None):
        config = compose("configs", overrides=changes).model
    assert config.imag_horizon == HORIZON
    space = SimpleNamespace(spaces={"state": SimpleNamespace(shape=(OBSERVATION,))})
    agent = dreamer.Dreamer(config, space, SimpleNamespace(shape=(ACTION,))).to(device())
    if not as_it_comes:
        dreamer.autocast = lambda **_: contextlib.nullcontext()
        agent._scaler = torch.amp.GradScaler(enabled=False)
    flag = torch.zeros(WINDOWS, RECORDS, 1)
    data = TensorDict(
        {
            "state": torch.randn(WINDOWS, RECORDS, OBSERVATION),
            "action": torch.rand(WINDOWS, RECORDS, ACTION) * 2 - 1,
            "reward": torch.rand(WINDOWS, RECORDS, 1),
            "is_first": flag.bool().squeeze(-1),
            "is_last": flag,
            "is_terminal": flag,
        },
        batch_size=(WINDOWS, RECORDS),
    ).to(device())
    initial = tuple(part.clone() for part in agent.rssm.initial(WINDOWS))
    replay = SimpleNamespace(sample=lambda: (data.clone(), None, initial), update=lambda *_: None)
    return Contender(lambda: agent.update(replay), sum(p.numel() for p in agent._named_params.values()))


def dreamerv3_torch(checkout: str) -> Contender:
    """NM512/dreamerv3-torch shrunk to our sizes: Gaussian latents, deter 128, stoch 24, two layers of 128."""
    sys.path.insert(0, checkout)
    import numpy as np
    from ruamel.yaml import YAML

    models: Any = __import__("models")
    # Two of its networks are made on a GPU wherever the others are.
    build = models.networks.MLP.__init__
    build.__defaults__ = tuple(device() if default == "cuda" else default for default in build.__defaults__)
    with open(os.path.join(checkout, "configs.yaml"), encoding="utf-8") as file:
        defaults = YAML(typ="safe", pure=True).load(file)["defaults"]
    # The file leaves floats such as 3e-5 to Python: YAML 1.1 takes them for words.
    config = SimpleNamespace(**{key: plain(value) for key, value in defaults.items()})
    small = {"mlp_keys": "state", "cnn_keys": "$^", "mlp_layers": 2, "mlp_units": 128}
    vars(config).update(device=device(), compile=False, num_actions=ACTION, units=128, dyn_hidden=128, dyn_deter=128)
    vars(config).update(dyn_stoch=24, dyn_discrete=0, encoder=config.encoder | small, decoder=config.decoder | small)
    assert config.imag_horizon == HORIZON
    space = SimpleNamespace(spaces={"state": SimpleNamespace(shape=(OBSERVATION,))})
    model = models.WorldModel(space, None, 0, config).to(device())
    behavior = models.ImagBehavior(config, model).to(device())
    random, shape = np.random.default_rng(0), (WINDOWS, RECORDS)
    batch = {
        "state": random.standard_normal((*shape, OBSERVATION), dtype=np.float32),
        "image": np.zeros(shape, np.float32),  # nobody looks at it, but it is asked for
        "action": random.uniform(-1, 1, (*shape, ACTION)).astype(np.float32),
        "reward": random.random(shape, np.float32),
        "is_first": np.zeros(shape, np.float32),
        "is_terminal": np.zeros(shape, np.float32),
    }

    def update() -> None:
        states, _, _ = model._train(batch)
        behavior._train(states, lambda _f, s, _a: model.heads["reward"](model.dynamics.get_feat(s)).mode())

    parameters = count(model, behavior.actor, behavior.value)
    for module in (model, behavior):  # as its agent does: a gradient only where one is asked for
        module.requires_grad_(False)
    return Contender(update, parameters)


def plain(value: Any) -> Any:
    """A setting with the words that are numbers as numbers."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def sheeprl(_: str) -> Contender:
    """sheeprl's DreamerV3 of 2025 at its smallest published size, 1M."""
    import gymnasium
    import numpy as np
    import torch
    from hydra import compose, initialize_config_module
    from hydra.utils import instantiate
    from lightning.fabric import Fabric
    from sheeprl.algos.dreamer_v3_5 import dreamer_v3_5 as algorithm
    from sheeprl.utils.utils import dotdict

    changes = ["exp=dreamer_v3_5", "algo=dreamer_v3_5_1M", "env=dummy", "algo.replay_context=0"]
    changes += ["algo.cnn_keys.encoder=[]", "algo.mlp_keys.encoder=[state]"]
    with initialize_config_module("sheeprl.configs", version_base="1.3"):
        composed = compose("config", overrides=changes)
    precision = "32-true"
    config = dotdict({"algo": plain_of(composed.algo), "fabric": {"precision": precision}, "env": {"num_envs": 1}})
    assert config.algo.horizon == HORIZON
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    space = gymnasium.spaces.Dict({"state": gymnasium.spaces.Box(-np.inf, np.inf, (OBSERVATION,))})
    model, actor, critic, slow, _player = algorithm.build_agent(fabric, (ACTION,), True, config, space)
    parameters = [*model.parameters(), *actor.parameters(), *critic.parameters()]
    optimizer = fabric.setup_optimizers(instantiate(config.algo.optimizer, params=parameters, _convert_="all"))
    moments = algorithm.Moments(0.99, 1.0, 0.05, 0.95)
    shape = (RECORDS, WINDOWS)
    data = {
        "state": torch.randn(*shape, OBSERVATION),
        "actions": torch.rand(*shape, ACTION) * 2 - 1,
        "rewards": torch.rand(*shape, 1),
        **{name: torch.zeros(*shape, 1) for name in ("terminated", "truncated", "is_first")},
    }

    def update() -> None:
        algorithm.train(fabric, config, model, actor, critic, slow, optimizer, moments, dict(data), None, (ACTION,))
        algorithm.update_target_critic(critic, slow, 0.02)

    return Contender(update, count(model, actor, critic))


def plain_of(node: Any) -> Any:
    """An OmegaConf node as dicts and lists."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(node, resolve=True)


NAMES: dict[str, Callable[[str], Contender]] = {
    contender.__name__: contender
    for contender in (
        telepath,
        telepath_small,
        telepath_unrecorded,
        telepath_together,
        telepath_frames,
        policy,
        first_update,
        sgemm,
        r2dreamer,
        r2dreamer_compiled,
        dreamerv3_torch,
        sheeprl,
    )
}


def at_length(contender: Contender) -> Contender:
    """The same with as many updates a step as a GPU should be measured by."""
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("there is no GPU that torch can use")

    def step() -> None:
        for _ in range(GPU_UPDATES):
            contender.step()
        torch.cuda.synchronize()

    return contender._replace(step=step, each=GPU_UPDATES * contender.each)


def main() -> None:
    """Be what the command line asks for."""
    name, threads, checkout, where = [*sys.argv[1:], "", ""][:4]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    # Ours shares out whole losses between its threads; no product is split, here or in a rival.
    os.environ |= {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
    os.environ |= {"TELEPATH_THREADS": threads, "TELEPATH_DEVICE": where or "cpu"}
    try:
        contender = NAMES[name](checkout)
    except ImportError as error:
        print(json.dumps({"absent": str(error)}), file=answers)
        return
    if device() == "cuda":
        contender = at_length(contender)
    for _ in range(contender.warm):
        contender.step()
    about = contender._asdict() | {"step": name, "cpu": time.process_time()}
    print(json.dumps({"ready": about}), file=answers)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        contender.step()
        print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}), file=answers)


if __name__ == "__main__":
    main()
