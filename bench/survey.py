"""A training that left very many output files: is the time linear, is the driver's memory bounded. On
`local`, model and all outputs home; prints JSON.

    python bench/survey.py [output files, at the most]
"""

import json
import sys

from _drive import Drive

SCRIPT = """
import os
out = os.environ["TOWLINE_OUTPUT"]
for n in range({count}):
    if n % 10000 == 0: os.makedirs(f"{{out}}/predictions/{{n // 10000:03d}}", exist_ok=True)
    with open(f"{{out}}/predictions/{{n // 10000:03d}}/COCO_val2017_{{n:012d}}.jpg.txt", "w") as file:
        file.write(f"{{n}} 0.5 0.5\\n")
os.makedirs(out + "/weights")
open(out + "/weights/best.pt", "w").write("the model")
"""


def measured(count, outputs):
    task = {"artifacts": {"outputs": outputs}}
    with Drive(SCRIPT.format(count=count), **task) as drive:
        drive.run()
        _ended, took = drive.step("gather")
        home = sum(len(files) for _at, _folders, files in (drive.results / "output").walk()) \
            if hasattr(drive.results, "walk") else sum(1 for path in (drive.results / "output").rglob("*") if path.is_file())  # fmt: skip
        return {
            "files": count,
            "outputs_home": home,
            "model_home": (drive.results / "best.pt").exists(),
            "exit": drive.code,
            "gather_s": round(took, 1),
            "driver_most_mb": round(drive.most_mb),
        }


def main():
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    counts = (most // 10, most)
    result = {
        "bench": "survey",
        "all_outputs": [measured(count, ["output/**"]) for count in counts],
        "model_alone": [measured(count, ["output/weights/**"]) for count in counts],
    }
    print(json.dumps(result))


main()
