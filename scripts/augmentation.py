"""Tables of what check-augmentation.sh measured: mean and deviation over seeds, percent."""

import collections
import json
import pathlib
import re
import statistics
import sys


def cell(values):
    values = [100 * value for value in values]
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def main():
    reports = collections.defaultdict(list)
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*-*-[0-9].json")):
        data, name = re.fullmatch(r"(fashion|digits)-(.+)-\d", path.stem).groups()
        reports[data, name].append(json.loads(path.read_text()))
    print("| Fashion-MNIST | seeds | clean | corrupted | rotate | noise | blur | scale | contrast |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (data, name), own in reports.items():
        if data == "fashion":
            all_of = [report["model"]["corruption"] for report in own]
            cells = [cell([one["clean"]["value"] for one in all_of]), cell([one["corrupted"]["value"] for one in all_of])]
            for number, kind in enumerate(all_of[0]["corruptions"]):
                assert kind["name"] == ["rotate", "noise", "blur", "scale", "contrast"][number]
                cells.append(cell([one["corruptions"][number]["mean"]["value"] for one in all_of]))
            print(f"| {name} | {len(own)} | " + " | ".join(cells) + " |")
    print("\n| 200 digits | seeds | accuracy |\n|---|---|---|")
    for (data, name), own in reports.items():
        if data == "digits":
            accuracy = [one["model"]["metrics"]["classification"]["accuracy"]["value"] for one in own]
            print(f"| {name} | {len(own)} | {cell(accuracy)} |")


if __name__ == "__main__":
    main()
