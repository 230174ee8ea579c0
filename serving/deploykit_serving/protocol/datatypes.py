"""V2 datatypes and the numpy dtypes that hold them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from deploykit_serving.protocol.faults import RequestFault, shown

_NUMPY_OF: Final[dict[str, np.dtype[Any]]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
}
_DATATYPE_OF: Final = {dtype: name for name, dtype in _NUMPY_OF.items()}


def numpy_dtype(datatype: object, where: str) -> np.dtype[Any]:
    """Return the dtype for a V2 datatype.

    Args:
        where: whose datatype it is, for the message.

    Raises:
        RequestFault: no model of ours can take it (BYTES and BF16 are V2 too, but no signature has them).
    """
    dtype = _NUMPY_OF.get(datatype) if isinstance(datatype, str) else None
    if dtype is None:
        raise RequestFault(f"{where}: datatype must be one of {', '.join(_NUMPY_OF)}; got {shown(datatype)}")
    return dtype


def datatype_of(dtype: np.dtype[Any] | str) -> str:
    """Return the V2 datatype for a numpy dtype.

    Raises:
        KeyError: V2 has none.
    """
    return _DATATYPE_OF[np.dtype(dtype)]
