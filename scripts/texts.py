"""Makes labelled texts of what fetch-data.sh fetched: `texts.py DATA OUT` writes spam-*.jsonl and udhr-*.tsv, and prints
what naive Bayes gets right on the same split.

spam: the text after the first empty line, every fifth message for testing. udhr: 18 languages in Latin script with many
speakers; articles that 3 divides, and the preamble, are for testing. Of training texts there are also pieces of six words,
because some paragraphs are that short.
"""

import json
import math
import re
import sys
from collections import Counter
from pathlib import Path

LANGUAGES = "eng spa fra por_BR deu_1996 ind vie tur ita pol nld ron_2006 swh tgl hun ces swe jav".split()
PIECE_WORDS = 6


def rows(path):
    with open(path, encoding="utf-8", newline="\n") as lines:
        return [line.rstrip("\n").split("\t") for line in lines]


def naive_bayes(train, test, pieces, is_set):
    """Share of the test texts whose class is right; `pieces` cuts a text, counted once each if `is_set`."""
    counts, texts = {}, Counter()
    for label, text in train:
        texts[label] += 1
        own = pieces(text)
        counts.setdefault(label, Counter()).update(set(own) if is_set else own)
    distinct = len(set().union(*counts.values()))

    def score(label, own):
        total = texts[label] + 2 if is_set else sum(counts[label].values()) + distinct
        return math.log(texts[label]) + sum(math.log((counts[label][piece] + 1) / total) for piece in own)

    right = 0
    for label, text in test:
        own = set(pieces(text)) if is_set else pieces(text)
        right += max(counts, key=lambda label: score(label, own)) == label
    return right / len(test)


def spam(data, out):
    parts = {"train": [], "test": []}
    for number, (group, _, message) in enumerate(rows(data / "spam" / "spam.tsv")):
        body = json.loads(message).partition("\n\n")[2]
        label = "spam" if group.startswith("spam") else "ham"
        parts["test" if number % 5 == 4 else "train"].append((label, body))
    for name, part in parts.items():
        with open(out / f"spam-{name}.jsonl", "w", encoding="utf-8") as file:
            for label, text in part:
                file.write(json.dumps({"label": label, "text": text}) + "\n")
    words = lambda text: re.findall(r"\w+", text.lower())
    found = naive_bayes(parts["train"], parts["test"], words, True)
    print(f"spam: {len(parts['train'])} and {len(parts['test'])} texts, naive Bayes on words {found:.4f}")


def udhr(data, out):
    parts = {"train": [], "test": []}
    for language, key, text in rows(data / "udhr" / "udhr.tsv"):
        if language in LANGUAGES:
            parts["test" if int(key.partition(".")[0]) % 3 == 0 else "train"].append((language, text))
    trigrams = lambda text: [f" {text} "[at : at + 3] for at in range(len(text))]
    found = naive_bayes(parts["train"], parts["test"], trigrams, False)
    print(f"udhr: {len(parts['train'])} and {len(parts['test'])} texts, naive Bayes on trigrams {found:.4f}")
    whole = list(parts["train"])
    for label, text in whole:
        words = text.split()
        cut = range(0, len(words), PIECE_WORDS)
        parts["train"] += [(label, " ".join(words[at : at + PIECE_WORDS])) for at in cut]
    for name, part in parts.items():
        lines = (f"{label}\t{text}\n" for label, text in part)
        (out / f"udhr-{name}.tsv").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    spam(data, out)
    udhr(data, out)
