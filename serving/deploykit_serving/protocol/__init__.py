"""Open Inference Protocol V2 over HTTP: JSON tensors, the binary tensor extension and raw requests.

Pure functions from bytes to values and back; they know signatures and arrays, but neither models nor sockets.
Source: Open Inference Protocol, ``inference_rest``; Triton's binary tensor data extension.
"""

from __future__ import annotations

from deploykit_serving.protocol.datatypes import datatype_of, numpy_dtype
from deploykit_serving.protocol.faults import RequestFault
from deploykit_serving.protocol.infer_request import InferRequest, OutputWish, parse_infer_request
from deploykit_serving.protocol.infer_response import Answer, write_infer_response

__all__ = [
    "Answer",
    "InferRequest",
    "OutputWish",
    "RequestFault",
    "datatype_of",
    "numpy_dtype",
    "parse_infer_request",
    "write_infer_response",
]
