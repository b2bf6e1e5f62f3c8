"""Sort texts into classes, or teach a language model to write like them, with transformers.

Reads CSV or JSON lines with a text and a label, or .txt files, from TOWLINE_DATASET; writes the folder
model/ as transformers saves it, and metrics.json, into TOWLINE_OUTPUT. Settings come as JSON in
TOWLINE_SETTINGS; what is not given there is as in DEFAULTS. The model is a name on the Hugging Face hub,
the path of one that was uploaded, or `scratch`: a small one with random weights and a tokenizer made of
the texts, which downloads nothing. Needs torch, transformers, accelerate, and peft for lora.
"""

import csv
import json
import math
import os
import random
import sys
from pathlib import Path

import torch
import transformers
from transformers import Trainer, TrainerCallback, TrainingArguments

DATASET = Path(os.environ.get("TOWLINE_DATASET", "dataset"))
OUTPUT = Path(os.environ.get("TOWLINE_OUTPUT", "output"))
DEFAULTS = {
    "task": "auto",
    "model": "scratch",
    "text_column": "auto",
    "label_column": "auto",
    "epochs": 3,
    "batch": 8,
    "lr": 0.0,
    "max_length": 256,
    "lora": False,
    "lora_rank": 8,
    "val_share": 0.2,
    "seed": 0,
}
SET = {**DEFAULTS, **json.loads(os.environ.get("TOWLINE_SETTINGS", "{}"))}
TEXT_NAMES = ("text", "sentence", "content", "prompt", "review", "body")
LABEL_NAMES = ("label", "class", "target", "y", "category", "sentiment")
SPECIAL = ["[PAD]", "[UNK]", "[BOS]", "[EOS]"]
VOCABULARY = 4000  # of a tokenizer made of the texts


# -- the data ---------------------------------------------------------------------------------------


def files_of(path):
    """The files to train on, and those to test on."""
    if path.is_file():
        return [path], []
    for endings in ((".jsonl",), (".csv", ".tsv"), (".txt", ".md")):
        found = sorted(
            p for p in path.rglob("*") if p.suffix.lower() in endings and p.name[0] != "."
        )
        if found:
            test = [p for p in found if any(w in p.stem.lower() for w in ("val", "test", "dev"))]
            return (
                ([p for p in found if p not in test], test)
                if len(test) < len(found)
                else (found, [])
            )
    stop(f"{path} holds no .jsonl, .csv or .txt file")


def rows_of(file):
    """Rows as {column: value}; one with the whole text for a plain text file."""
    if file.suffix.lower() == ".jsonl":
        with open(file, encoding="utf-8-sig") as lines:
            return [json.loads(line) for line in lines if line.strip()]
    if file.suffix.lower() in (".csv", ".tsv"):
        csv.field_size_limit(10_000_000)
        with open(file, encoding="utf-8-sig", newline="") as lines:
            try:
                comma = csv.Sniffer().sniff(lines.read(65536), delimiters=",;\t|").delimiter
            except csv.Error:
                comma = ","
            lines.seek(0)
            return list(csv.DictReader(lines, delimiter=comma))
    text = file.read_text("utf-8", "replace")
    return [{"text": part} for part in text.split("\n\n") if part.strip()]


def column(rows, wanted, names):
    """The column of this name, or the first of the usual names that is there; None without one."""
    there = list(rows[0])
    if wanted != "auto":
        if wanted not in there:
            stop(f"there is no column {wanted!r}; columns: {', '.join(map(str, there))}")
        return wanted
    return next((name for w in names for name in there if str(name).lower() == w), None)


def load():
    """(text, label or None) to train on and to test on, and the task."""
    train_files, test_files = files_of(DATASET)
    train, test = (
        [row for f in files for row in rows_of(f)] for files in (train_files, test_files)
    )
    if len(train) < 2:
        stop(f"{len(train)} texts in {DATASET} are too few")
    text = column(train, SET["text_column"], TEXT_NAMES)
    label = column(train, SET["label_column"], LABEL_NAMES)
    text = text or next((name for name in train[0] if name != label), None)
    task = SET["task"] if SET["task"] != "auto" else "write" if label is None else "classify"
    if text is None or (task == "classify" and label is None):
        stop(f"no column with {'texts' if text is None else 'labels'} in {', '.join(train[0])}")
    pairs = [[(str(r.get(text) or ""), r.get(label)) for r in rows] for rows in (train, test)]
    if task == "classify":
        pairs = [
            [(t, str(label)) for t, label in part if label not in (None, "")] for part in pairs
        ]
    if not pairs[1]:
        random.Random(SET["seed"]).shuffle(pairs[0])
        count = max(1, round(len(pairs[0]) * SET["val_share"]))
        pairs = [pairs[0][count:], pairs[0][:count]]
    print(f"{task}: column {text!r}" + (f", labels {label!r}" if task == "classify" else ""))
    print(f"training on {len(pairs[0])} texts, testing on {len(pairs[1])} others")
    if not pairs[0]:
        stop("there is no text to train on")
    return *pairs, task


# -- the model --------------------------------------------------------------------------------------


def own_tokenizer(texts):
    """A tokenizer made of the texts themselves."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    named = dict(zip(("pad_token", "unk_token", "bos_token", "eos_token"), SPECIAL))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)


def own_model(task, tokenizer, classes):
    """A small model with random weights."""
    if task == "write":
        sizes = {"n_embd": 128, "n_layer": 4, "n_head": 4, "n_positions": SET["max_length"]}
        ids = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
        config = transformers.GPT2Config(vocab_size=len(tokenizer), **sizes, **ids)
        return transformers.GPT2LMHeadModel(config)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=SET["max_length"] + 2,
        pad_token_id=0,
        **labels_config(classes),
    )
    return transformers.BertForSequenceClassification(config)


def labels_config(classes):
    """Names of the classes, as a model's configuration holds them."""
    names = dict(enumerate(classes))
    return {
        "num_labels": len(names),
        "id2label": names,
        "label2id": {n: i for i, n in names.items()},
    }


def get_model(task, texts, classes):
    """The tokenizer and the model that are trained."""
    if SET["model"] == "scratch":
        tokenizer = own_tokenizer(texts)
        return tokenizer, own_model(task, tokenizer, classes)
    name = SET["model"]
    places = (Path(name), DATASET / name, DATASET.parent / name)
    name = next((str(place) for place in places if place.is_dir()), name)
    tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if task == "write":
        return tokenizer, transformers.AutoModelForCausalLM.from_pretrained(name)
    kind = transformers.AutoModelForSequenceClassification
    model = kind.from_pretrained(name, ignore_mismatched_sizes=True, **labels_config(classes))
    model.config.pad_token_id = tokenizer.pad_token_id
    return tokenizer, model


def with_adapter(model, task):
    """The model with a small adapter, which alone is trained."""
    from peft import LoraConfig, get_peft_model

    kind = "CAUSAL_LM" if task == "write" else "SEQ_CLS"
    rank = SET["lora_rank"]
    config = LoraConfig(
        task_type=kind, r=rank, lora_alpha=2 * rank, lora_dropout=0.05, target_modules="all-linear"
    )
    model = get_peft_model(model, config)
    model.print_trainable_parameters()
    return model


# -- training ---------------------------------------------------------------------------------------


class Texts(torch.utils.data.Dataset):
    """Texts as numbers of tokens."""

    def __init__(self, pairs, tokenizer, numbers):
        self.rows = []
        for text, label in pairs:
            row = tokenizer(text, truncation=True, max_length=SET["max_length"])
            found = {"input_ids": row["input_ids"], "attention_mask": row["attention_mask"]}
            if numbers is not None:
                found["labels"] = numbers[label]
            if found["input_ids"]:
                self.rows.append(found)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, number):
        return dict(self.rows[number])


class Report(TrainerCallback):
    """Tells towline how far it is; transformers' own lines are for people."""

    def __init__(self):
        self.loss = None

    def on_log(self, args, state, control, logs=None, **more):
        self.loss = (logs or {}).get("loss", self.loss)

    def on_evaluate(self, args, state, control, metrics=None, **more):
        epoch = round(state.epoch or 0)
        found = {} if self.loss is None else {"loss": self.loss}
        found |= {k: v for k, v in (metrics or {}).items() if k in ("eval_loss", "eval_accuracy")}
        found = {name: round(float(value), 5) for name, value in found.items()}
        progress = {"epoch": epoch, "total_epochs": SET["epochs"], "metrics": found}
        print("\n" + json.dumps({"type": "progress", "data": progress}), flush=True)


def accuracy(answers):
    """Share of texts whose class was found."""
    return {"accuracy": float((answers.predictions.argmax(-1) == answers.label_ids).mean())}


def learning_rate():
    """The one that was given, else one that suits the model."""
    if SET["lr"]:
        return SET["lr"]
    return 1e-3 if SET["model"] == "scratch" else 2e-4 if SET["lora"] else 3e-5


def arguments():
    """How transformers trains."""
    return TrainingArguments(
        output_dir=str(OUTPUT / "checkpoints"),
        num_train_epochs=SET["epochs"],
        per_device_train_batch_size=SET["batch"],
        per_device_eval_batch_size=SET["batch"],
        learning_rate=learning_rate(),
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        bf16=torch.cuda.is_available() and torch.cuda.is_bf16_supported(),
        seed=SET["seed"],
        report_to=[],
    )


def main():
    """Load, train, test, save."""
    transformers.set_seed(SET["seed"])
    OUTPUT.mkdir(parents=True, exist_ok=True)
    train, test, task = load()
    classes = sorted({label for _text, label in train}) if task == "classify" else []
    if task == "classify" and len(classes) < 2:
        stop(f"one class only: {classes}; there is nothing to tell apart")
    tokenizer, model = get_model(task, [text for text, _label in train], classes)
    model = with_adapter(model, task) if SET["lora"] else model
    numbers = {name: n for n, name in enumerate(classes)} if task == "classify" else None
    test = [pair for pair in test if numbers is None or pair[1] in numbers]
    if task == "write":
        collate = transformers.DataCollatorForLanguageModeling(tokenizer, mlm=False)
    else:
        print(f"classes: {', '.join(classes)}")
        collate = transformers.DataCollatorWithPadding(tokenizer)
    trainer = Trainer(
        model=model,
        args=arguments(),
        data_collator=collate,
        train_dataset=Texts(train, tokenizer, numbers),
        eval_dataset=Texts(test, tokenizer, numbers),
        compute_metrics=accuracy if task == "classify" else None,
        callbacks=[Report()],
    )
    trainer.train()
    trainer.remove_callback(Report)
    found = {name: round(value, 5) for name, value in trainer.evaluate().items() if "eval_" in name}
    if task == "write":
        found["perplexity"] = round(math.exp(min(found["eval_loss"], 50)), 3)
    trainer.save_model(str(OUTPUT / "model"))
    tokenizer.save_pretrained(str(OUTPUT / "model"))
    (OUTPUT / "metrics.json").write_text(json.dumps(found) + "\n", encoding="utf-8")
    print(f"on texts it was not trained on: {found}; saved {OUTPUT / 'model'}")


def stop(why):
    """End with a plain reason."""
    sys.exit(f"error: {why}")


if __name__ == "__main__":
    main()
