"""Hugging Face Trainer: a tiny BERT from random weights learns which of two words is in a text."""

import os
import random
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

OUTPUT = Path(os.environ.get("TOWLINE_OUTPUT", "output"))
WORDS = ["[PAD]", "[UNK]", "good", "bad", "the", "a", "ship", "sea", "rope", "line", "wind", "mast"]


def make_tokenizer():
    """Words to numbers; nothing is downloaded."""
    words = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=16
    )


def make_texts(count, tokenizer):
    """Random texts with `good` (label 1) or `bad` (label 0) somewhere in them."""
    rows = []
    for _ in range(count):
        label = random.randrange(2)
        words = random.choices(WORDS[4:], k=random.randrange(3, 9))
        words.insert(random.randrange(len(words)), ("bad", "good")[label])
        rows.append({**tokenizer(" ".join(words)), "labels": label})
    return rows


def main():
    """Train, evaluate each epoch, save."""
    random.seed(7)
    tokenizer = make_tokenizer()
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=16,
    )
    arguments = TrainingArguments(
        output_dir=str(OUTPUT),
        num_train_epochs=3,
        learning_rate=5e-3,
        per_device_train_batch_size=16,
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_steps=5,
        load_best_model_at_end=True,
        report_to="none",
        seed=7,
    )
    trainer = Trainer(
        model=BertForSequenceClassification(config),
        args=arguments,
        train_dataset=make_texts(320, tokenizer),
        eval_dataset=make_texts(64, tokenizer),
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.save_model(str(OUTPUT / "final"))


if __name__ == "__main__":
    main()
