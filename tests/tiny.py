"""Small random models of many architectures, built from configs without any download."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    MPNetConfig,
    OPTConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    RobertaConfig,
)

VOCABULARY = 64
_ENCODER = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}
_DECODER = {**_ENCODER, "num_key_value_heads": 2, "pad_token_id": 0}

CONFIGS: dict[str, Callable[..., PretrainedConfig]] = {
    "bert": lambda **k: BertConfig(**_ENCODER, **k),
    "roberta": lambda **k: RobertaConfig(**_ENCODER, pad_token_id=1, **k),
    "mpnet": lambda **k: MPNetConfig(**_ENCODER, **k),
    "distilbert": lambda **k: DistilBertConfig(
        vocab_size=VOCABULARY, dim=32, n_layers=3, n_heads=4, hidden_dim=48, max_position_embeddings=40, **k
    ),
    "deberta_v2": lambda **k: DebertaV2Config(
        **_ENCODER, relative_attention=True, position_buckets=8, pos_att_type=["p2c", "c2p"], pooler_hidden_size=32, **k
    ),
    "llama": lambda **k: LlamaConfig(**_DECODER, **k),
    "qwen2": lambda **k: Qwen2Config(**_DECODER, **k),
    "mistral": lambda **k: MistralConfig(**_DECODER, sliding_window=6, **k),
    "gpt2": lambda **k: GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=3, n_head=4, n_inner=48, n_positions=40,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, **k,
    ),
    "opt": lambda **k: OPTConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, ffn_dim=48, max_position_embeddings=40,
        word_embed_proj_dim=32, pad_token_id=1, **k,
    ),
}  # fmt: skip
ENCODERS = ("bert", "roberta", "mpnet", "distilbert", "deberta_v2")
DECODERS = ("llama", "qwen2", "mistral", "gpt2", "opt")
ARCHITECTURES = ENCODERS + DECODERS
HEADS = {"none": AutoModel, "classification": AutoModelForSequenceClassification, "causal_lm": AutoModelForCausalLM}


def build(
    architecture: str, head: str = "none", *, seed: int = 0, device: str = "cpu", attention: str = "sdpa", **settings: Any
) -> PreTrainedModel:
    """A small random model in eval mode. head: `none`, `classification` (3 labels) or `causal_lm`.

    attention: `sdpa` or `eager`; eager where the architecture has nothing else.
    """
    config = CONFIGS[architecture](num_labels=3, **settings)
    kind = HEADS[head]
    torch.manual_seed(seed)
    with torch.device(device):
        try:
            model = kind.from_config(config, attn_implementation=attention)
        except ValueError:
            model = kind.from_config(config, attn_implementation="eager")
    return model.eval()


def batch(rows: int = 3, length: int = 9, *, seed: int = 0, padded: bool = True) -> dict[str, torch.Tensor]:
    """Random token ids [rows, length] and their mask; the last row ends early where `padded`."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, VOCABULARY, (rows, length), generator=generator)
    mask = torch.ones_like(ids)
    if padded:
        mask[-1, length - 3 :] = 0
    return {"input_ids": ids, "attention_mask": mask}
