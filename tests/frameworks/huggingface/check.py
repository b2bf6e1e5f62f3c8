import sys

from transformers import AutoModelForSequenceClassification, AutoTokenizer

model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
texts = ["the ship good sea", "a bad rope"]
answers = [model(**tokenizer(text, return_tensors="pt")).logits.argmax().item() for text in texts]
print(f"{texts[0]!r} is {answers[0]}, {texts[1]!r} is {answers[1]}")
assert answers == [1, 0]
