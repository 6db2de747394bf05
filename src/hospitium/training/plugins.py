"""A researcher's own file: further models, losses and algorithms for in_process runs.

The file is Python that its owner chose to run on the owner's machine; it is shown in the report by
name and digest, and never travels: between machines only data does.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hospitium.errors import PluginError
from hospitium.plan.checking import MODEL_ARGS, Extra
from hospitium.wire.canonical import digest


@dataclass(kw_only=True)
class Plugin:
    """What a plug-in file has registered; it is handed to the file's function ``register``.

    Example of a file::

        def register(plugin):
            plugin.model("my_net", lambda in_channels, num_outputs, width=16: Net(...))
    """

    models: dict[str, Callable[..., Any]] = field(default_factory=dict)
    losses: dict[str, Callable[..., Any]] = field(default_factory=dict)
    algorithms: dict[str, Callable[..., Any]] = field(default_factory=dict)
    path: str = ""
    sha256: str = ""

    def model(self, name: str, build: Callable[..., Any]) -> None:
        """Add a model: ``build(in_channels, num_outputs, **args)`` returns a ``torch.nn.Module``.

        Batch norm is refused: its buffers are not trained, and averaging them is a choice that
        nobody made (`docs/concepts/normalisation.md`).
        """
        self._add(self.models, "model", name, build, taken=set(MODEL_ARGS))

    def loss(self, name: str, compute: Callable[..., Any]) -> None:
        """Add a loss: ``compute(logits, labels, case_weights)`` returns a scalar tensor."""
        self._add(self.losses, "loss", name, compute, taken={"cross_entropy", "focal"})

    def algorithm(self, name: str, build: Callable[..., Any]) -> None:
        """Add an algorithm: ``build(fedavg)`` returns a `hospitium.types.Algorithm`.

        It is given the FedAvg of the same plan, to take and change what differs.
        """
        self._add(self.algorithms, "algorithm", name, build, taken={"fedavg", "fedprox"})

    @property
    def extra(self) -> Extra:
        """The names that a plan may use besides the built-in ones."""
        return Extra(models=self.models, losses=self.losses, algorithms=self.algorithms)

    def _add(
        self, table: dict[str, Any], kind: str, name: str, value: Any, *, taken: set[str]
    ) -> None:
        if name in taken | set(table):
            raise PluginError(
                f"{self.path}: the {kind} {name!r} is there already. Nothing was started. "
                "Choose another name in the plug-in file."
            )
        table[name] = value


def load_plugin(path: Path) -> Plugin:
    """Run a plug-in file and return what it registered.

    Raises:
        PluginError: It cannot be read, fails, has no function ``register``, or takes a name.
    """
    try:
        code = path.read_bytes()
        spec = importlib.util.spec_from_file_location(f"hospitium_plugin_{path.stem}", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses and annotations look their module up there
        exec(compile(code, str(path), "exec"), module.__dict__)  # noqa: S102 - the owner's own file
    except Exception as error:  # the file is foreign code: anything may come out of it
        raise PluginError(
            f"{path}: the plug-in file cannot be loaded ({type(error).__name__}: {error}). "
            "Nothing was started. Mend the file; `python FILE.py` shows where it fails."
        ) from error
    if not hasattr(module, "register"):
        raise PluginError(
            f"{path}: it has no function `register(plugin)`. Nothing was started. "
            "Add one that calls plugin.model, plugin.loss or plugin.algorithm."
        )
    plugin = Plugin(path=str(path), sha256=digest(code))
    try:
        module.register(plugin)
    except PluginError:
        raise
    except Exception as error:
        raise PluginError(
            f"{path}: its function `register` failed ({type(error).__name__}: {error}). "
            "Nothing was started. Mend the file."
        ) from error
    return plugin
