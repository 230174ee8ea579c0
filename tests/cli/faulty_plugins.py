"""Sources of small plugins, each with one fault, and the message that its author reads."""

from __future__ import annotations

from typing import Final

CARD: Final = "from deploykit import {0}Card, hookimpl\n\n\n@hookimpl\ndef deploykit_{1}():\n    yield {0}Card({2})\n"
DECODER: Final = CARD.format("Decoder", "decoders", '"mine", "finds nothing", "deploykit_mine.mine:Mine"')
NOTHING: Final = """
import numpy as np
from deploykit import Decoder, TensorSpec
from deploykit.errors import SignatureError


class Mine(Decoder):
    outputs = (TensorSpec(name="label", dtype="int64", shape=("batch",)),)

    def decode(self, outputs):
        if "scores" not in outputs:
            raise SignatureError("mine: wanted 'scores'")
        return {"label": np.zeros(len(outputs["scores"]), np.int64)}
"""
EXAMPLES: Final = """
import numpy as np
from deploykit.testing import DecoderContract


class TestMine(DecoderContract):
    name = "mine"

    def examples(self):
        yield {"scores": np.ones((3, 2), np.float32)}
"""

METHOD: Final = 'MethodCard("mine.method", "s", "deploykit_mine.mine:Mine")'
DISCOVERY_FAULTS: Final[dict[str, tuple[dict[str, str], str]]] = {
    "import error": (
        {"deploykit_mine/__init__.py": "import nobody_has_this"},
        "plugin 'mine' did not load: ModuleNotFoundError: No module named 'nobody_has_this'",
    ),
    "syntax error": (
        {"deploykit_mine/__init__.py": "def f(:\n"},
        "plugin 'mine' did not load: SyntaxError: invalid syntax",
    ),
    "exit": (
        {"deploykit_mine/__init__.py": "raise SystemExit(3)"},
        "plugin 'mine' did not load: SystemExit: 3",
    ),
    "death": (
        {"deploykit_mine/__init__.py": "import os\nprint('so long', flush=True)\nos._exit(7)"},
        "the process that checks the plugin died with exit code 7 while the plugin was loaded\n"
        "    its last words:\n    so long",
    ),
    "no hook": (
        {"deploykit_mine/__init__.py": "def deploykit_methods():\n    return []\n"},
        "plugin 'mine' implements no hook, so it offers nothing; mark its functions, such as deploykit_methods, "
        "with @hookimpl from deploykit",
    ),
    "misspelt hook": (
        {"deploykit_mine/__init__.py": "from deploykit import hookimpl\n@hookimpl\ndef deploykit_method():\n    ..."},
        "Did you mean 'deploykit_methods'?",
    ),
    "newer contract": (
        {"deploykit_mine/__init__.py": "deploykit_contract = 99\n" + DECODER},
        "plugin 'mine' was written for plugin contract 99, this deploykit speaks 1; upgrade deploykit",
    ),
    "wrong card": (
        {"deploykit_mine/__init__.py": DECODER.replace("deploykit_decoders", "deploykit_tasks")},
        "deploykit_tasks must yield TaskCard, got DecoderCard",
    ),
    "heavy import": (
        {"deploykit_mine/__init__.py": "import onnx\n" + DECODER},
        "plugin 'mine' imports onnx at discovery, which took ",
    ),
    "taken name": (
        {"deploykit_mine/__init__.py": DECODER.replace('"mine"', '"text-boxes"')},
        "decoder 'text-boxes' is registered by the plugins 'binarized' and 'mine'; uninstall one or rename its decoder",
    ),
    "private names": (
        {
            "deploykit_mine/__init__.py": DECODER,
            "deploykit_mine/other.py": "\n\nfrom deploykit.registry import _Shelf\n",
            "deploykit_mine/deep/er.py": "from deploykit import installed\n\nprint(installed()._shelves)\n",
        },
        "deploykit_mine/deep/er.py:3 uses installed()._shelves, where installed is deploykit.installed\n"
        "    deploykit_mine/other.py:3 uses deploykit.registry._Shelf\n"
        "    names that begin with '_' may change with any version; use public ones, or ask for what is missing",
    ),
    "no implementation": (
        {"deploykit_mine/__init__.py": DECODER},
        "mine: cannot import 'deploykit_mine.mine:Mine': ModuleNotFoundError: No module named 'deploykit_mine.mine'",
    ),
    "wrong class": (
        {"deploykit_mine/__init__.py": DECODER, "deploykit_mine/mine.py": "class Mine: ..."},
        "mine: 'deploykit_mine.mine:Mine' must be a subclass of deploykit.Decoder, got deploykit_mine.mine.Mine",
    ),
    "missing method": (
        {"deploykit_mine/__init__.py": CARD.format("Method", "methods", METHOD[len("MethodCard("):-1]),
         "deploykit_mine/mine.py": "from deploykit import Method\n\nclass Mine(Method):\n    def decisions(self): ..."},
        "mine.method: 'deploykit_mine.mine:Mine' lacks harden, oracle, prepare; every plugin writes those",
    ),
    "taken verb": (
        {"deploykit_mine/__init__.py": "from deploykit import hookimpl\n\n\n@hookimpl\ndef deploykit_cli():\n"
         "    return [('train', print)]\n"},
        "plugin 'mine' offers a verb 'train', which exists already; rename it",
    ),
    "unreadable verb": (
        {"deploykit_mine/__init__.py": "from deploykit import hookimpl\n\n\ndef verb(x: int | str): ...\n\n\n"
         "@hookimpl\ndef deploykit_cli():\n    return [('mine', verb)]\n"},
        "plugin 'mine' offers a verb 'mine' that typer cannot read: AssertionError: Typer ",
    ),
}  # fmt: skip

CONTRACT_FAULTS: Final[dict[str, tuple[dict[str, str], str]]] = {
    "writes into its input": (
        {"implementation": NOTHING.replace("        return {", "        outputs['scores'][:] = 0\n        return {")},
        "FAILED decoder mine: DecoderContract: It neither writes into a model's outputs nor hands them out as its "
        "own.\n"
        "    mine: writes into 'scores', which the server still sends; work on a copy",
    ),
    "crashes": (
        {"implementation": NOTHING.replace("        return {", "        1 / 0\n        return {")},
        "    ZeroDivisionError: division by zero\n    raised in deploykit_mine/mine.py:13, decode: 1 / 0\n",
    ),
    "words its promises itself": (
        {"tests": EXAMPLES + "\n    def test_settings_are_checked(self): ...\n"},
        "test_mine.py rewrites test_settings_are_checked of DecoderContract; a promise that its author words proves "
        "nothing: take it out, or give it another name",
    ),
    "tests that cannot be read": (
        {"tests": "import nobody_has_this\n" + EXAMPLES},
        "FAILED plugin: Its tests in test_mine.py can be read.\n"
        "    ModuleNotFoundError: No module named 'nobody_has_this'",
    ),
    "interrupts": (
        {"implementation": NOTHING.replace("        return {", "        raise KeyboardInterrupt\n        return {")},
        "FAILED plugin: Every contract is run to its end.\n    pytest ended with INTERRUPTED; not run: ",
    ),
    "dies": (
        {"implementation": NOTHING.replace("        return {", "        import os; os._exit(9)\n        return {")},
        "died with exit code 9 while it looked at: decoder mine: DecoderContract: ",
    ),
}
