"""A nested state in one safetensors file: exact round trip, deterministic bytes, atomic writes, no pickle.

The tensors lie in the body of the file. Everything else (the *skeleton*: dicts, lists, tuples, numbers,
strings, and where each tensor goes) is JSON under the one metadata key ``telepath``, beside the file's kind,
the format version and a checksum. One key only, because safetensors does not promise an order of several.

In the skeleton a JSON list is a list and a JSON scalar is itself; all else is an object with a single key:
``{"dict": [[key, node], ...]}``, ``{"tuple": [node, ...]}``, or the name of a tensor in the body, as
``{"tensor": name}``, ``{"array": name}`` or ``{"scalar": name}`` (the latter two come back as numpy's).
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from telepath.errors import UserError
from telepath.files import MEND, one_line, read, write_atomically

VERSION = 1
METADATA_KEY = "telepath"
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SIGNED = (torch.int8, torch.int16, torch.int32, torch.int64)
UNSIGNED = (torch.uint8, torch.uint16, torch.uint32, torch.uint64)
DTYPES = frozenset((torch.bool, *SIGNED, *UNSIGNED, *FLOATS))


def save_state(path: Path, state: Any, *, kind: str) -> None:
    """Write ``state`` to ``path``, all or nothing: whoever is killed on the way leaves the old file whole.

    state: a tree of dicts (str or int keys), lists and tuples; its leaves are tensors, numpy arrays and
    scalars, int (of any size), float, bool, str and None. Tensors are stored detached and dense, subclasses
    of dict, list and tuple as plain ones. kind: one word for what the file holds; ``load_state`` asks for it.

    Raises TypeError, which names the place in the tree, for anything else, and ``UserError`` where the file
    cannot be written.
    """
    write_atomically(path, pack(state, kind))


def load_state(path: Path, kind: str) -> Any:
    """Read what ``save_state`` wrote, tensors on the CPU.

    A file that is missing, truncated, damaged, foreign, of another kind or another format version is a
    ``UserError`` of one line.
    """
    data = read(path)
    try:
        return unpack(data, kind)
    except Unreadable as error:
        raise UserError(f"{path}: {error}; {MEND}") from None


class Unreadable(Exception):
    """Why some bytes are not the state that was asked for."""


def pack(state: Any, kind: str) -> bytes:
    """The bytes of a file that holds ``state``; equal states give equal bytes."""
    tensors: dict[str, Tensor] = {}
    content = {"version": VERSION, "kind": kind, "state": encode(state, tensors, "state")}
    header = {"checksum": checksum(content, tensors), **content}
    return safetensors.torch.save(tensors, {METADATA_KEY: json.dumps(header)})


def unpack(data: bytes, kind: str) -> Any:
    """The state in the bytes of a file; raises ``Unreadable``."""
    try:
        tensors = safetensors.torch.load(data)
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    except Exception:
        # Whatever a parser trips over in damaged bytes, it means one thing to the user.
        raise Unreadable("truncated, damaged, or not a safetensors file") from None
    if METADATA_KEY not in metadata:
        raise Unreadable("a safetensors file, but not one that Telepath wrote")
    try:
        header = json.loads(metadata[METADATA_KEY])
        version, digest = header["version"], header.pop("checksum")
    except Exception:
        raise Unreadable("damaged") from None
    if version != VERSION:
        raise Unreadable(f"written in format {one_line(version)}, this version of Telepath reads format {VERSION}")
    try:
        # A checksum is no signature: whoever made the file may have made it so that it fits, and the rest does not.
        whole, found = digest == checksum(header, tensors), header["kind"]
        state = decode(header["state"], tensors)
    except Exception:
        raise Unreadable("damaged") from None
    if not whole:
        raise Unreadable("damaged (the checksum does not fit the content)")
    if found != kind:
        raise Unreadable(f"holds {one_line(repr(found))} where {kind!r} is needed")
    return state


def encode(node: Any, tensors: dict[str, Tensor], place: str) -> Any:
    """The skeleton of ``node``; its tensors go into ``tensors``, named after ``place`` in the tree."""
    if node is None or type(node) in (bool, int, float, str):
        return node
    if isinstance(node, Tensor):
        return {"tensor": put(node, tensors, place)}
    if isinstance(node, np.ndarray):
        return {"array": put(as_tensor(node, place), tensors, place)}
    if isinstance(node, np.generic):
        return {"scalar": put(as_tensor(np.asarray(node), place), tensors, place)}
    if isinstance(node, Mapping):
        if odd := [key for key in node if type(key) not in (str, int)]:
            raise TypeError(f"{place}: a key must be str or int, not {type(odd[0]).__name__} ({odd[0]!r})")
        return {"dict": [[key, encode(value, tensors, f"{place}/{key}")] for key, value in node.items()]}
    if isinstance(node, list | tuple):
        nodes = [encode(value, tensors, f"{place}/{index}") for index, value in enumerate(node)]
        return nodes if isinstance(node, list) else {"tuple": nodes}
    raise TypeError(f"{place}: cannot store a {type(node).__name__}")


def decode(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The tree that a skeleton describes."""
    if isinstance(node, list):
        return [decode(child, tensors) for child in node]
    if not isinstance(node, dict):
        return node
    ((what, content),) = node.items()
    match what:
        case "dict":
            return {key: decode(child, tensors) for key, child in content}
        case "tuple":
            return tuple(decode(child, tensors) for child in content)
        case "array":
            return tensors[content].numpy()
        case "scalar":
            return tensors[content].numpy()[()]
        case _:
            return tensors[content]


def put(tensor: Tensor, tensors: dict[str, Tensor], place: str) -> str:
    """Add a dense copy of ``tensor`` (others may share its memory) and return the name it is filed under."""
    if tensor.dtype not in DTYPES or tensor.layout != torch.strided:
        raise TypeError(f"{place}: cannot store a tensor of {tensor.dtype} and layout {tensor.layout}")
    # The number keeps names apart where keys look alike (1 and "1", or a "/" in a key).
    name = f"{len(tensors)}:{place}"
    tensors[name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    return name


def as_tensor(array: np.ndarray, place: str) -> Tensor:
    """A numpy array seen as a tensor of the same type."""
    try:
        # torch warns of arrays that it may not write to and refuses negative strides: those are copied.
        return torch.from_numpy(np.require(array, requirements=["C", "W"]))
    except (TypeError, ValueError):
        raise TypeError(f"{place}: cannot store a numpy array of {array.dtype.str}") from None


def checksum(content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over skeleton, names, types, shapes and bytes: safetensors would not see a flipped bit."""
    digest = hashlib.sha256(json.dumps(content).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
