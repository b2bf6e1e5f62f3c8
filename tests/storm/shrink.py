"""Make a failing plan smaller: fewer faults first, then a plainer world, task and user."""

import copy

MOST_TRIES = 160


def shrunk(plan, fails):
    """The smallest plan found that still fails.

    Args:
        plan: One that fails.
        fails: Told a plan; lives it and says whether the same invariant is broken.
    """
    return _Shrinker(plan, fails).run()


class _Shrinker:
    def __init__(self, plan, fails):
        self.best = plan
        self._fails = fails
        self._tries = 0

    def run(self):
        self._fewer_faults()
        for change in _simpler(self.best):
            self._try(change)
        self._fewer_faults()
        return self.best

    def _try(self, change):
        """Keep a changed plan when it still fails."""
        if self._tries >= MOST_TRIES:
            return False
        plan = copy.deepcopy(self.best)
        try:
            changed = change(plan)
        except (KeyError, IndexError):
            return False
        if changed is False or plan == self.best:
            return False
        self._tries += 1
        if self._fails(plan):
            self.best = plan
            return True
        return False

    def _fewer_faults(self):
        """Halves first, then one by one, until none can go."""
        size = max(1, len(self.best["faults"]) // 2)
        while size:
            at = 0
            while at < len(self.best["faults"]):
                if not self._try(
                    lambda plan, a=at, n=size: plan["faults"].__delitem__(slice(a, a + n))
                ):
                    at += size
            size //= 2


def _set(*path_and_value):
    *path, key, value = path_and_value

    def change(plan):
        place = plan
        for name in path:
            place = place[name]
        if key not in place:
            return False
        place[key] = value
        return True

    return change


def _less(*path_and_value):
    """Set a number that is larger."""
    *path, key, value = path_and_value
    put = _set(*path_and_value)

    def change(plan):
        place = plan
        for name in path:
            place = place[name]
        return place.get(key, value) > value and put(plan)

    return change


def _drop(*path):
    *path, key = path

    def change(plan):
        place = plan
        for name in path:
            place = place[name]
        return place.pop(key, None) is not None

    return change


def _simpler(plan):
    """Changes worth a try, the ones that say most first."""
    yield _set("neighbour", False)
    yield _set("view", False)
    yield _set("user", "keys", [])
    yield _set("user", "words", [])
    yield _set("user", "patience", [60.0] * 6)
    for name in list(plan["task"]["limits"]):
        yield _drop("task", "limits", name)
    for name in ("keep", "model", "checkpoint_every"):
        yield _drop("task", name)
    yield _set("task", "gpu", False)
    yield _set("task", "requirements", False)
    yield _set("provider", "lambda")
    yield _set("provider", "local")
    for name, value in (("get_lag", 0.0), ("list_lag", 0.0), ("dying_s", 0.0), ("tail_s", 0.0),
                        ("boot_s", 2.0), ("ssh_s", 0.0), ("price", 2.0)):  # fmt: skip
        yield _set("shape", name, value)
    for name, value in (("epochs", 3), ("every_s", 5.0), ("code", 0), ("save_s", 0.0),
                        ("term_s", 0.2), ("deaf", False), ("checkpoints", None)):  # fmt: skip
        yield _set("job", name, value)
    for number in range(len(plan["faults"])):
        yield _less("faults", number, "times", 1)
        yield _less("faults", number, "n", 1)
        for seconds in (2.0, 5.0, 25.0, 60.0):
            yield _less("faults", number, "s", seconds)
