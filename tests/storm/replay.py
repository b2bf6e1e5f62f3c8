"""Live a stored plan again: `python -m tests.storm.replay FILE`."""

import json
import sys
import traceback
from pathlib import Path

from tests.storm.__main__ import lived, quietly


def main():
    """Print the story; exit 1 when an invariant broke."""
    quietly()
    plan = json.loads(Path(sys.argv[1]).read_text())
    life = lived(plan)
    for at, text in life.world.story:
        print(f"{at:10.2f} {text}")
    for who, error in life.bugs:
        print(f"{who}:", "".join(traceback.format_exception(error)))
    print(life.commands)
    for name, text in life.world.broken:
        print(f"BROKEN {name}: {text}")
    return 1 if life.world.broken else 0


if __name__ == "__main__":
    sys.exit(main())
