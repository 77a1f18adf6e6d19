"""The pickles within files of ``torch.save``: tensors and NumPy arrays become descriptions, all else inert objects."""

from __future__ import annotations

import pickle
import pickletools
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .stored import StoredArray, kept, raw, refused, widened

_BFLOAT16 = "bfloat16"
#: NumPy's codes of the types; bfloat16 has that of its bits.
_CODES = {
    "float64": "f8", "float32": "f4", "float16": "f2", _BFLOAT16: "u2", "int64": "i8", "int32": "i4", "int16": "i2",
    "int8": "i1", "uint64": "u8", "uint32": "u4", "uint16": "u2", "uint8": "u1", "bool": "?", "complex64": "c8",
    "complex128": "c16",
}  # fmt: skip
_STORAGES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": _BFLOAT16, "Long": "int64", "Int": "int32",
    "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool", "ComplexFloat": "complex64",
    "ComplexDouble": "complex128", "Untyped": "uint8", "QInt8": "int8", "QUInt8": "uint8", "QInt32": "int32",
}  # fmt: skip

_NUMBERING, _NUMBERED = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), ("GET", "BINGET", "LONG_BINGET")
_DEEPEST = 1000  # tuples within each other

#: Given key, type and bytes of a storage, says where it is.
FindStorage = Callable[[str, str, int], "Storage"]


class Storage:
    """Where the numbers of tensors lie.

    Parameters
    ----------
    opened : callable
        Opens the stream that they lie in.
    size : int
        How many bytes.
    dtype : str
    order : {"<", ">"}
    checked : bool
        As for `raw`.
    """

    def __init__(self, opened: Callable[[], IO[bytes]], size: int, dtype: str, order: str, *, checked: bool) -> None:
        self.opened, self.size, self.dtype, self.order, self.checked = opened, size, dtype, order, checked
        self.start = 0

    @property
    def itemsize(self) -> int:
        """Return the bytes of an entry."""
        return np.dtype(_CODES[self.dtype]).itemsize


class StoredValue(ABC):
    """Something in a pickle that has rows."""

    shape: tuple[int, ...] = ()

    @abstractmethod
    def stored(self, name: str, path: Path) -> StoredArray:
        """Make the array in the file that it describes.

        Raises
        ------
        ValueError
            If the description fits no array.
        """


class _Unsupported(StoredValue):
    def __init__(self, why: str, shape: tuple[int, ...] = ()) -> None:
        self._why, self.shape = why, shape

    def stored(self, name: str, path: Path) -> StoredArray:
        return refused(name, path, self.shape, self._why)


class _Tensor(StoredValue):
    def __init__(self, storage: Storage, dtype: str, offset: int, shape: tuple[int, ...], strides: Any) -> None:
        numbers = (offset, *shape, *strides)
        if not all(type(number) is int and number >= 0 for number in numbers) or len(shape) != len(strides):
            raise ValueError(f"a tensor must not have shape {shape}, strides {strides} and offset {offset}")
        self.shape, self._storage, self._offset = shape, storage, offset
        self._strides = tuple(strides)
        self._wide = dtype == _BFLOAT16
        self._dtype = np.dtype(storage.order + _CODES[dtype])

    def stored(self, name: str, path: Path) -> StoredArray:
        steps = ((length - 1) * stride for length, stride in zip(self.shape, self._strides, strict=True))
        end = self._offset + (1 + sum(steps) if all(self.shape) else 0)
        if end * self._dtype.itemsize > self._storage.size:
            raise ValueError(f"{name} of shape {self.shape} goes beyond its storage of {self._storage.size} bytes")
        read = self._reader()
        if self._wide:
            return StoredArray(name, path, self.shape, np.float32, widened(read))
        return StoredArray(name, path, self.shape, self._dtype, read)

    def _reader(self) -> Any:
        storage, start = self._storage, self._storage.start + self._offset * self._dtype.itemsize
        for by_columns in (False, True):
            if self._runs(by_columns):
                return raw(
                    storage.opened, start, self.shape, self._dtype, by_columns=by_columns, checked=storage.checked
                )
        return kept(self._strided)

    def _runs(self, by_columns: bool) -> bool:
        """Tell whether the entries lie one after the other, the last index running fastest, or the first."""
        axes = list(zip(self.shape, self._strides, strict=True))
        due = 1
        for length, stride in axes if by_columns else reversed(axes):
            if length > 1 and stride != due:
                return False
            due *= length
        return True

    def _strided(self) -> NDArray[Any]:
        storage, size = self._storage, self._dtype.itemsize
        count = storage.size // size
        numbers = raw(storage.opened, storage.start, (count,), self._dtype, checked=storage.checked)(0, count)
        strides = tuple(size * stride for stride in self._strides)
        return np.ndarray(self.shape, self._dtype, numbers.data, self._offset * size, strides)


class _NumPyType:
    def __init__(self, code: Any, *_: Any) -> None:
        self._code, self._order = code, "="

    def __setstate__(self, state: Any) -> None:
        self._order = state[1]

    def dtype(self) -> np.dtype[Any]:
        """Return the type, if it is one of numbers."""
        code = self._code
        if not (isinstance(code, str) and code[:1] in "fiubc" and code[1:].isdecimal()):
            raise ValueError(f"it must hold numbers, not {code}")
        return np.dtype(f"{'=' if self._order == '|' else self._order}{code}")


class _NumPyArray(StoredValue):
    def __init__(self, *_: Any) -> None:
        self._state: Any = None

    def __setstate__(self, state: Any) -> None:
        _, self.shape, dtype, by_columns, numbers = state
        self._state = dtype, by_columns, numbers

    def stored(self, name: str, path: Path) -> StoredArray:
        dtype, by_columns, numbers = self._state
        try:
            kind = dtype.dtype()
        except ValueError as error:
            return refused(name, path, self.shape, str(error))
        whole = np.frombuffer(numbers, kind).reshape(self.shape, order="F" if by_columns else "C")
        return StoredArray(name, path, whole.shape, kind, lambda first, last: whole[first:last])


class Other:
    """Stands for an object of any other class, and keeps what it was made of.

    Attributes
    ----------
    parts : list
        Its arguments, its state, and its items if it is a list or a dict.
    """

    parts: list[Any]

    def __new__(cls, *arguments: Any, **_: Any) -> Other:
        self = super().__new__(cls)
        self.parts = [arguments]
        return self

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> Other:
        return Other()

    def __setstate__(self, state: Any) -> None:
        self.parts += state if isinstance(state, tuple) else [state]

    def __setitem__(self, key: Any, value: Any) -> None:
        self.parts.append({key: value})

    def append(self, value: Any) -> None:
        """Keep an item of a list."""
        self.parts.append([value])

    def extend(self, values: Any) -> None:
        """Keep the items of a list."""
        self.parts.append(values)


def _tensor(
    storage: Storage, offset: int, shape: Any, strides: Any, _grad: Any = None, _hooks: Any = None, metadata: Any = None
) -> StoredValue:
    return _typed_tensor(storage, offset, shape, strides, None, None, storage.dtype, metadata)


def _typed_tensor(
    storage: Storage, offset: int, shape: Any, strides: Any, _grad: Any, _hooks: Any, dtype: Any, metadata: Any = None
) -> StoredValue:
    if dtype not in _CODES:
        return _Unsupported(f"it must be of a type that NumPy has, or bfloat16, not {dtype}", tuple(shape))
    if metadata:
        return _Unsupported(f"it must be a plain tensor, not one with {metadata}", tuple(shape))
    return _Tensor(storage, dtype, offset, tuple(shape), strides)


def _subclass(function: Any, _type: Any, arguments: Any, _state: Any) -> Any:
    return function(*arguments)


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"bytes are written as latin1, not as {encoding}")
    return text.encode(encoding)


_KNOWN: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _typed_tensor,
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    ("torch._utils", "_rebuild_parameter_with_state"): lambda data, *_: data,
    ("torch._tensor", "_rebuild_from_type"): _subclass,
    ("torch._tensor", "_rebuild_from_type_v2"): _subclass,
    ("torch", "Size"): tuple,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _NumPyType,
    ("numpy._core.multiarray", "_reconstruct"): _NumPyArray,
    ("numpy.core.multiarray", "_reconstruct"): _NumPyArray,
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: IO[bytes], storage: FindStorage | None) -> None:
        super().__init__(stream)
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """Return a description of ours for each global: nothing is imported."""
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if module.partition(".")[0] == "torch":
            if name.endswith("Storage"):
                return _STORAGES.get(name.removesuffix("Storage"), name)
            if module == "torch" and (name in _CODES or name.startswith("float")):
                return name
            if name.startswith("_rebuild"):
                return lambda *_: _Unsupported(f"it must be a dense tensor, not one of {module}.{name}")
        return Other

    def persistent_load(self, pid: Any) -> Any:
        """Return where a storage is, or the class of a module, which the older format has with its source."""
        if isinstance(pid, tuple) and pid[:1] == ("module",):
            return pid[1]
        kind, dtype, key, _, entries, *view = pid
        if self._storage is None or kind != "storage" or dtype not in _CODES or view not in ([], [None]):
            raise ValueError(f"there is a reference {pid!r} that is not to a storage")
        if type(entries) is not int or entries < 0:
            raise ValueError(f"a storage must not have {entries} entries")
        return self._storage(key, dtype, entries * np.dtype(_CODES[dtype]).itemsize)


def _check_sizes(stream: IO[bytes]) -> None:
    """Refuse a pickle that numbers more objects than it has, or nests tuples so deep that to hash one is a crash."""
    depths: list[int] = []  # of what is on the stack
    marks: list[int] = []
    numbered: dict[int, int] = {}
    for opcode, argument, place in pickletools.genops(stream):
        name = opcode.name
        if name in _NUMBERING:
            number = len(numbered) if name == "MEMOIZE" else int(argument or 0)
            if number > int(place or 0):  # a table of that length
                raise ValueError(f"object {number} is numbered where there can be but {place}")
            numbered[number] = depths[-1]
        elif name in _NUMBERED:
            depths.append(numbered[int(argument or 0)])
        elif name == "MARK":
            marks.append(len(depths))
        else:
            taken = opcode.stack_before
            first = len(depths) - len(taken)
            if pickletools.markobject in taken:  # it, all above it, and what is named before it
                first = marks.pop() - (len(taken) - 2)
            depth = max(depths[max(first, 0) :], default=0) + name.startswith("TUPLE")
            if depth > _DEEPEST:
                raise ValueError(f"it has tuples within tuples {depth} deep")
            depths[max(first, 0) :] = [depth] * len(opcode.stack_after)


def unpickle(stream: IO[bytes], storage: FindStorage | None = None) -> Any:
    """Read the pickle that begins here, and stop behind it.

    Raises
    ------
    Exception
        Of any type if it is damaged.
    """
    start = stream.tell()
    _check_sizes(stream)
    stream.seek(start)
    return _Unpickler(stream, storage).load()
