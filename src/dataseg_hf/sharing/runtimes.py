"""Exported graphs in the place of the model: ONNX Runtime and OpenVINO on the CPU.

What comes out is what the model gives, so everything behind it is the same: thresholds, windows,
files.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import ConfigError
from ..model.configuration_dataseg import DaTaSegConfig
from ..model.image_processing_dataseg import DaTaSegImageProcessor
from ..model.modeling_dataseg import DaTaSegOutput
from ..model.vocabularies_dataseg import VocabularyMixin, VocabularyStore

INPUTS = ("pixel_values", "pixel_mask", "text_embeddings")
"""Of a graph, in order."""
EXPORT_FILE = "export.json"
"""Says what is in a folder of an export."""
VOCABULARIES_FILE = "vocabularies.safetensors"
GRAPHS: Mapping[str, str] = {"fp32": "model.onnx", "int8": "model_int8.onnx"}
"""File of each precision."""
RUNTIMES: Mapping[str, str] = {"onnx": "export", "openvino": "openvino"}
"""The extra that brings each."""
_PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}
MAX_SHAPES = 4  # of inputs; windows come in batches of four and what is left
Runner: TypeAlias = Callable[[Tensor, Tensor, Tensor], DaTaSegOutput]
"""A graph as a function: `pixel_values` [B, 3, H, W], `pixel_mask` int64 [B, H, W] and
`text_embeddings` [C, D] give the outputs of `InferenceGraph.forward`.
"""


def runner(file: Path, runtime: str) -> Runner:
    """A graph as a function, on as many threads as torch has.

    Post-processing beyond semantic maps also wants `is_thing` bool [B, C]: `RuntimeModel` sets it.

    Args:
        file: an ONNX file.
        runtime: one of `RUNTIMES`.

    Raises:
        ImportError: without the package of the runtime.
        ValueError: for a file that it cannot read.
    """
    check_runtime(runtime)
    make = {"onnx": onnx_runner, "openvino": openvino_runner}[runtime]
    try:
        return make(file)
    except Exception as error:  # both raise errors of their own
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"{file} cannot be read by {runtime} ({reason}); export it again"
        ) from error


def check_runtime(runtime: str) -> None:
    """Refuse (ImportError) a runtime whose package is not installed."""
    if find_spec(_PACKAGES[runtime]) is None:
        raise ImportError(
            f"--runtime {runtime} needs more packages: pip install dataseg-hf[{RUNTIMES[runtime]}]"
        )


def onnx_runner(file: Path) -> Runner:
    """As `runner`, with ONNX Runtime and its errors."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # its warnings are about its own fusions
    # torch works on the same cores between two calls
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(*inputs: Tensor) -> DaTaSegOutput:
        return _output(names, session.run(None, _arrays(inputs)))

    return run


def openvino_runner(file: Path) -> Runner:
    """As `runner`, with OpenVINO and its errors. It compiles the graph for each shape of the inputs
    that it meets: seconds once, and a faster graph than one for all shapes.
    """
    import openvino

    core = openvino.Core()
    content = core.read_model(str(file))
    names = [output.any_name for output in content.outputs]
    # by default it would compute in bfloat16 where the CPU has instructions for it
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}

    @lru_cache(MAX_SHAPES)
    def compiled(*shapes: tuple[int, ...]) -> Any:
        fixed = content.clone()
        fixed.reshape({name: list(shape) for name, shape in zip(INPUTS, shapes, strict=True)})
        return core.compile_model(fixed, "CPU", settings)

    def run(*inputs: Tensor) -> DaTaSegOutput:
        results = compiled(*(tuple(x.shape) for x in inputs))(_arrays(inputs))
        # copied, as it uses their memory again
        return _output(names, [results[name].copy() for name in names])

    return run


def _arrays(inputs: Sequence[Tensor]) -> dict[str, NDArray[Any]]:
    """Inputs by name."""
    return {name: x.numpy() for name, x in zip(INPUTS, inputs, strict=True)}


def _output(names: Sequence[str], results: Sequence[NDArray[Any]]) -> DaTaSegOutput:
    """A graph's results by name, as the model's output."""
    named: dict[str, Any] = {
        name: torch.from_numpy(array) for name, array in zip(names, results, strict=True)
    }
    return DaTaSegOutput(**named)


class RuntimeModel(VocabularyMixin):
    """An exported graph with the model's vocabularies: called like the model, for inference.

    Args:
        config: of the model that was exported.
        run: its graph.
    """

    device = torch.device("cpu")

    def __init__(self, config: DaTaSegConfig, run: Runner) -> None:
        super().__init__(config)
        self.vocabularies = VocabularyStore(config)
        self.query_decoder = cast(Any, nn.Identity())  # it is in the graph
        self._run = run
        self.eval()

    def forward(
        self,
        pixel_values: Tensor,
        pixel_mask: Tensor,
        text_embeddings: Tensor | None = None,
        is_thing: Tensor | None = None,
        vocabulary: str | None = None,
    ) -> DaTaSegOutput:
        """As `DaTaSegModel.forward`: logits [B, N, C + 1] and [B, N, h, w] and what goes with
        them.

        Raises:
            ValueError: for an unknown vocabulary.
        """
        embeddings, things = self._classes(text_embeddings, is_thing, vocabulary)
        output = self._run(pixel_values, pixel_mask, embeddings)
        output.is_thing = things.expand(len(pixel_values), -1)
        return output


@dataclass(frozen=True)
class Export:
    """A folder that `dataseg export` wrote.

    Args:
        folder: where it lies.
        facts: content of its `export.json`.
    """

    folder: Path
    facts: Mapping[str, Any]

    @property
    def precisions(self) -> list[str]:
        """Those of its graphs, fp32 first."""
        return [name for name in GRAPHS if name in self.facts["graphs"]]

    def load(
        self, runtime: str, precision: str | None = None
    ) -> tuple[RuntimeModel, DaTaSegImageProcessor]:
        """What predicts with one of its graphs, and the processor of its images.

        Args:
            runtime: one of `RUNTIMES`.
            precision: one of `precisions`; the last of them by default.

        Raises:
            ConfigError: for a precision or a file that it lacks.
            ImportError, ValueError: as `runner`.
        """
        wanted = precision or self.precisions[-1]
        if wanted not in self.precisions:
            raise ConfigError(
                f"--precision: {self.folder} has no {wanted} graph, only "
                f"{', '.join(self.precisions)}; write one by `dataseg export --quantize {wanted}`"
            )
        config = DaTaSegConfig.from_dict(dict(self.facts["config"]))
        model = RuntimeModel(config, runner(self._file(GRAPHS[wanted]), runtime))
        model.vocabularies.load_state_dict(load_file(self._file(VOCABULARIES_FILE)))
        return model, DaTaSegImageProcessor.from_pretrained(self.folder)

    def _file(self, name: str) -> Path:
        if not (self.folder / name).is_file():
            raise ConfigError(f"--model: {self.folder} lacks {name}; export the model again")
        return self.folder / name


def is_export(folder: str | Path) -> bool:
    """Whether a folder says that it is an export."""
    return (Path(folder) / EXPORT_FILE).is_file()


def open_export(folder: str | Path) -> Export:
    """A folder that `dataseg export` wrote.

    Raises:
        ConfigError: for anything else.
    """
    if not is_export(folder):
        raise ConfigError(
            f"--model: {folder} is no export (no {EXPORT_FILE} in it); write one by `dataseg "
            "export --model CHECKPOINT --output FOLDER`, or leave out --runtime"
        )
    file = Path(folder) / EXPORT_FILE
    try:
        facts = json.loads(file.read_text("utf-8"))
        known = {"graphs", "config"} <= facts.keys()
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"--model: {file} is damaged ({error}); export again") from error
    if not known:
        raise ConfigError(f"--model: {file} lacks `graphs` or `config`; export again")
    return Export(Path(folder), facts)
