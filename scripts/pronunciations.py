"""Splits the CMU dictionary: `pronunciations.py DICTIONARY OUT` writes train.dict and test.dict, every 20th word for testing
with all its variants, and prints the phoneme error rate of a simple baseline on the test words.

The baseline says at each letter the phoneme that is most frequent there, seen with two letters on both sides, or as many as
were seen, learned from the words that have as many phonemes as letters.
"""

import sys
from collections import Counter, defaultdict
from pathlib import Path

EVERY = 20
REACH = 2


def words(path):
    """Each word with all its pronunciations, and its lines as they are."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        parts = line.split("#")[0].split()
        if not parts:
            continue
        word = parts[0].partition("(")[0] or parts[0]
        if not found or found[-1][0] != word:
            found.append((word, [], []))
        found[-1][1].append(parts[1:])
        found[-1][2].append(line)
    return found


def contexts(word):
    """What stands around each letter, the widest view first."""
    padded = "^" * REACH + word + "$" * REACH
    for at in range(len(word)):
        middle = at + REACH
        yield [(reach, padded[middle - reach : middle + reach + 1]) for reach in range(REACH, -1, -1)]


def distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


if __name__ == "__main__":
    out = Path(sys.argv[2])
    everything = words(Path(sys.argv[1]))
    test = everything[::EVERY]
    train = [word for number, word in enumerate(everything) if number % EVERY]
    for name, part in [("train", train), ("test", test)]:
        (out / f"{name}.dict").write_text("\n".join(line for *_, lines in part for line in lines) + "\n", encoding="utf-8")
    seen = defaultdict(Counter)
    for word, pronunciations, _ in train:
        for phonemes in pronunciations:
            if len(phonemes) == len(word):
                for views, phoneme in zip(contexts(word), phonemes):
                    for view in views:
                        seen[view][phoneme] += 1
    wrong = total = 0
    for word, pronunciations, _ in test:
        said = []
        for views in contexts(word):
            view = next((view for view in views if view in seen), None)
            said += [seen[view].most_common(1)[0][0]] if view else []
        edits, length = min((distance(said, right), len(right)) for right in pronunciations)
        wrong, total = wrong + edits, total + length
    print(f"{len(train)} words to learn from, {len(test)} to test on; baseline: phoneme error rate {wrong / total:.4f}")
