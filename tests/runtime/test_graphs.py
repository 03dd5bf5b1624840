from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from telepath.runtime.graphs import PRACTICE, Recorded, cloned, recording, tensors_in
from tests.tape import NotRecordable, TapeRecorder


class Pair(NamedTuple):
    first: Tensor
    others: tuple[Tensor, str, None]


def pair(value: float) -> Pair:
    return Pair(torch.full((3,), value), (torch.full((2,), 10 * value), "a word", None))


def test_nested_tuples_give_and_copy_their_tensors() -> None:
    given = pair(1.0)
    copied = cloned(given)
    assert isinstance(copied, Pair)
    assert copied.others[1:] == ("a word", None)
    given.first.zero_()
    assert [tensor.tolist() for tensor in tensors_in(copied)] == [[1.0] * 3, [10.0] * 2]


def test_a_recorded_function_does_what_it_would_do_unrecorded() -> None:
    total, drawn = torch.zeros(3), [torch.Generator().manual_seed(5) for _ in range(2)]

    def function(given: Pair, total: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        noise = torch.empty(3).normal_(generator=generator)
        total += given.first * given.others[0].sum() + noise
        return {"total": total.clone(), "view": total[1:].square()}

    other, recorder = torch.zeros(3), TapeRecorder()
    recorded = Recorded(lambda given: function(given, total, drawn[0]), recorder)
    for number in range(8):
        found = {name: value.clone() for name, value in recorded(pair(float(number))).items()}
        torch.testing.assert_close(found, function(pair(float(number)), other, drawn[1]), rtol=0, atol=0)
    assert recorder.plays == 8 - PRACTICE


def test_only_while_it_is_recorded_nobody_may_look() -> None:
    seen: list[bool] = []

    def function(given: tuple[Tensor]) -> tuple[Tensor]:
        seen.append(recording())
        return (given[0] + 1,)

    recorded = Recorded(function, TapeRecorder())
    for _ in range(PRACTICE + 3):
        recorded((torch.zeros(1),))
    assert seen == [False] * PRACTICE + [True]
    assert not recording()


@pytest.mark.parametrize(
    "look",
    [
        lambda x: float(x.sum()),
        lambda x: bool((x > 0).all()),
        lambda x: x[x > 0],
        lambda x: x + torch.tensor([1.0, 2.0, 3.0]),
        lambda x: x[torch.randperm(3)],
    ],
)
def test_what_a_graph_cannot_hold_is_found_without_a_gpu(look: Any) -> None:
    recorded = Recorded(lambda given: (look(given[0]),), TapeRecorder())
    for _ in range(PRACTICE):
        recorded((torch.ones(3),))
    with pytest.raises(NotRecordable):
        recorded((torch.ones(3),))
    assert not recording(), "after an error too"


def test_forgotten_it_practises_and_records_anew() -> None:
    weight, recorder = [torch.ones(1)], TapeRecorder()
    recorded = Recorded(lambda given: (given[0] * weight[0],), recorder)
    for _ in range(PRACTICE + 2):
        recorded((torch.ones(1),))
    weight[0] = torch.full((1,), 7.0)
    assert recorded((torch.ones(1),))[0] == 1, "the tensor that was there is still read"
    recorded.forget()
    for _ in range(PRACTICE + 2):
        assert recorded((torch.ones(1),))[0] == 7
