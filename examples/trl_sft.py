"""A found configuration in a script of your own, with TRL's SFTTrainer.

    python examples/trl_sft.py BASE_MODEL CONFIGURATION TRAIN.jsonl [STEPS]

BASE_MODEL is a decoder: a Hugging Face id or a folder. CONFIGURATION is what
`autopeft export STUDY --pick knee --to configuration` writes. TRAIN.jsonl has the columns prompt and completion.
"""

import json
import sys
from pathlib import Path

import torch
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

import autopeft

base, configuration, train_file, *more = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(base)
model = AutoModelForCausalLM.from_pretrained(base, dtype="float32")
model = autopeft.apply(model, configuration)
model.print_trainable_parameters()

settings = SFTConfig(
    output_dir="example-trl",
    learning_rate=json.loads(Path(configuration).read_text())["learning_rate"],
    per_device_train_batch_size=4,
    max_steps=int(more[0]) if more else 100,
    max_length=512,
    completion_only_loss=True,
    bf16=torch.cuda.is_available(),
    save_strategy="no",
    report_to="none",
)
examples = load_dataset("json", data_files=train_file, split="train").select_columns(["prompt", "completion"])
trainer = SFTTrainer(model, args=settings, train_dataset=examples, processing_class=tokenizer)
losses = trainer.train()
print(f"mean training loss {losses.training_loss:.3f}")
trainer.save_model("example-trl")
