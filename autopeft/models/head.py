"""A base model with its task head: what is trained and evaluated.

    head kind   backbone                              task head
    mean        AutoModel                             mean of the last hidden states, then a linear layer of ours
    own         AutoModelForSequenceClassification    the model's, all that it has outside its base model
    causal_lm   AutoModelForCausalLM                  none: the vocabulary is the output

An adapter is put on `backbone` alone, so that what peft saves loads in plain peft on the class named here.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from autopeft.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HeadKind = Literal["mean", "own", "causal_lm"]
TASK_TYPES = {"mean": "FEATURE_EXTRACTION", "own": "SEQ_CLS", "causal_lm": "CAUSAL_LM"}
"""Head kind -> peft's name for such a model."""


def masked_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens that `mask` counts, in float32: [n, tokens, width], [n, tokens] -> [n, width]."""
    counted = mask.unsqueeze(-1).float()
    return (hidden.float() * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)


class TaskModel(nn.Module):
    """backbone: the Hugging Face model, later with an adapter around it. head: our linear layer, or None.

    Everything is frozen but the task head. tokenizer: of the base model, with a padding token.
    notes: of the task (`Task.notes`), saved beside the head.
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        head: nn.Linear | None,
        head_kind: HeadKind,
        tokenizer: PreTrainedTokenizerBase,
        notes: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.backbone, self.head, self.head_kind = backbone, head, head_kind
        self.tokenizer, self.notes = tokenizer, dict(notes)
        self.task_type = TASK_TYPES[head_kind]
        self.modules_to_save: tuple[str, ...] = own_head_modules(backbone) if head_kind == "own" else ()
        self._inputs = frozenset(inspect.signature(backbone.forward).parameters)
        self._initializer_range = float(getattr(backbone.config, "initializer_range", None) or 0.02)
        self._dropout: dict[tuple[int, str], float] = {}
        backbone.requires_grad_(False)
        self.open_head()

    @property
    def pad_id(self) -> int:
        return int(self.tokenizer.pad_token_id)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits [n, outputs], for causal_lm [n, tokens, vocabulary]. Takes of `batch` what the backbone knows."""
        output = self.backbone(**self.inputs_of(batch))
        if self.head is None:
            return output.logits
        return self.head(masked_mean(output.last_hidden_state, batch["attention_mask"]))

    def inputs_of(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the backbone takes of a batch."""
        return {name: tensor for name, tensor in batch.items() if name in self._inputs and name != "labels"}

    def generate(self, prompts: Sequence[Sequence[int]], max_new_tokens: int, device: torch.device | str) -> list[str]:
        """Greedy completions of token prompts, as text without special tokens."""
        from transformers import GenerationConfig

        longest = max(map(len, prompts))
        ids = torch.tensor([[self.pad_id] * (longest - len(p)) + list(p) for p in prompts])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
        greedy = GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            use_cache=all(getattr(module, "takes_cache", True) for module in self.backbone.modules()),
            pad_token_id=self.pad_id,
            eos_token_id=self.tokenizer.eos_token_id,
        )
        out = self.backbone.generate(input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=greedy)
        return list(self.tokenizer.batch_decode(out[:, longest:], skip_special_tokens=True))

    def reset_head(self, seed: int) -> None:
        """Start the task head anew: matrices N(0, initializer_range), norms 1, biases 0; equal for equal seeds,
        on every device and whether or not an adapter is there."""
        generator = torch.Generator().manual_seed(seed)
        fresh: dict[str, Tensor] = {}
        for name, parameter in self.named_head_tensors():
            if name not in fresh:
                if parameter.ndim > 1:
                    fresh[name] = torch.randn(parameter.shape, generator=generator) * self._initializer_range
                else:
                    fresh[name] = torch.full(parameter.shape, float(name.endswith("weight")))
            with torch.no_grad():
                parameter.copy_(fresh[name])

    def open_head(self) -> None:
        """Let the task head train; adapters are peft's business."""
        for _, parameter in self.named_head_tensors(originals=not self._is_wrapped()):
            parameter.requires_grad_(True)

    def _is_wrapped(self) -> bool:
        """Whether peft keeps a copy of the model's own head to train."""
        return any(".modules_to_save." in f".{name}" for name, _ in self.backbone.named_parameters())

    def named_head_tensors(self, *, originals: bool = True) -> Iterator[tuple[str, nn.Parameter]]:
        """Parameters of the task head by the name they have without peft; `originals`: also those
        that peft put aside while it trains a copy."""
        if self.head is not None:
            yield from self.head.named_parameters()
        for name, parameter in self.backbone.named_parameters():
            parts = name.removeprefix("base_model.model.").split(".")
            if parts[0] not in self.modules_to_save or (parts[1] == "original_module" and not originals):
                continue
            inner = parts[3:] if parts[1] == "modules_to_save" else parts[2:] if parts[1] == "original_module" else parts[1:]
            yield ".".join([parts[0], *inner]), parameter

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """Trainable parameters of the task head."""
        return (parameter for _, parameter in self.named_head_tensors() if parameter.requires_grad)

    def adapter_parameters(self) -> Iterator[nn.Parameter]:
        """Trainable parameters that are not the task head's."""
        own = {id(parameter) for parameter in self.head_parameters()}
        return (p for p in self.backbone.parameters() if p.requires_grad and id(p) not in own)

    def set_base_dropout(self, on: bool) -> None:
        """Turn dropout of the base model off, or on again at its own rates. Call it without an adapter.

        Off makes train mode deterministic: besides `nn.Dropout` this takes rates that attention
        modules and the config hold as plain numbers (`attention_dropout`, `layerdrop` ...).
        """
        for owner in (*self.backbone.modules(), self.backbone.config):
            for name in _dropout_rates(owner):
                rate = self._dropout.setdefault((id(owner), name), getattr(owner, name))
                setattr(owner, name, rate if on else 0.0)

    def save_head(self, folder: Path) -> None:
        """Write `head.safetensors` and `head.json` (head kind and the task's notes); nothing where there is no head."""
        tensors = {
            name: parameter.detach().cpu().contiguous() for name, parameter in self.named_head_tensors(originals=not self._is_wrapped())
        }
        if tensors:
            save_file(tensors, str(folder / "head.safetensors"))
            (folder / "head.json").write_text(json.dumps({"head": self.head_kind, **self.notes}, indent=1), encoding="utf-8")

    def load_head(self, folder: Path) -> None:
        """Take over what `save_head` wrote. Raises ModelError unless it was for such a head and task."""
        try:
            saved = json.loads((folder / "head.json").read_text(encoding="utf-8"))
            tensors = load_file(str(folder / "head.safetensors"))
        except (OSError, json.JSONDecodeError, SafetensorError) as error:
            raise ModelError(f"no task head can be read from {folder}: {error}") from None
        if saved != {"head": self.head_kind, **self.notes}:
            raise ModelError(f"the task head in {folder} is for {saved}, the model has {{'head': {self.head_kind!r}, **{self.notes}}}")
        for name, parameter in self.named_head_tensors():
            if name not in tensors or tensors[name].shape != parameter.shape:
                raise ModelError(f"the task head in {folder} lacks {name} of shape {list(parameter.shape)}")
            with torch.no_grad():
                parameter.copy_(tensors[name])


def own_head_modules(backbone: PreTrainedModel) -> tuple[str, ...]:
    """Names of the modules with weights that a model has outside its base model, e.g. `("classifier",)`."""
    outside = [(name, child) for name, child in backbone.named_children() if child is not backbone.base_model]
    return tuple(name for name, child in outside if next(child.parameters(), None) is not None)


def _dropout_rates(owner: Any) -> list[str]:
    """Attributes that are rates of dropout: numbers whose name says so, and `p` of dropout modules."""
    named = [name for name, value in vars(owner).items() if isinstance(value, float) and "drop" in name]
    return [*named, "p"] if isinstance(owner, nn.modules.dropout._DropoutNd) else named
