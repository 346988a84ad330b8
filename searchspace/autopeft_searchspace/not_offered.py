"""Types of Hugging Face peft that the space does not have, and why."""

from __future__ import annotations

INPUT_TOKENS = "it puts tokens before the text, which move positions and outputs; `prompt` does it without"

NOT_OFFERED: dict[str, str] = {
    "ADAPTION_PROMPT": "it rewrites the attention of a few decoders alone; `prefix` stands for it",
    "CARTRIDGE": "it keeps tokens in the cache of a decoder; `prefix` stands for it",
    "CPT": "it needs the ids and the masks of a prompt for each task",
    "MULTITASK_PROMPT_TUNING": f"{INPUT_TOKENS}, with source factored for one task",
    "POLY": "its inputs must name a task; `poly` is ours, for one task",
    "PREFIX_TUNING": "it has no choice of layers and shifts the positions of some encoders; `prefix` is ours",
    "PROMPT_TUNING": INPUT_TOKENS,
    "P_TUNING": f"{INPUT_TOKENS}, with source encoded",
    "SHADOW": "it trains a second small decoder and adds its loss",
    "TRAINABLE_TOKENS": "it trains embeddings of tokens that the user must name",
    "XLORA": "it mixes trained LoRA adapters that must be there already",
}
"""Name in `peft.PeftType` -> why."""
