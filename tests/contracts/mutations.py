"""Every small way in which an answer may be other than its document says."""

import copy
from xml.etree import ElementTree as ET

#: put in the place of what is there; what is alike is left out
_ODD = (None, "odd", -7, True, [], {}, [7], {"odd": 7})
DROPPED = "dropped"


def mutations(value):
    """Copies of an answer with one part dropped or replaced: path, what it is now, the copy.

    Of a list its first element stands for all. An answer is JSON, or XML as text.
    """
    if isinstance(value, str):
        return _of_xml(value)
    return _of_json(value) if isinstance(value, dict | list) else ()


def at(value, path):
    """The part at a path."""
    if isinstance(value, str):
        found = ET.fromstring(value)
        for key in path:
            found = found[key[1] if isinstance(key, tuple) else key]
        return ET.tostring(found, encoding="unicode")
    for key in path:
        value = value[key]
    return value


def _of_json(value, path=()):
    inner = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list) and value:
        inner = [(0, value[0])]
    for key, part in inner:
        without = copy.copy(value)
        del without[key]
        yield (*path, key), DROPPED, without
        for odd in _ODD:
            if odd != part or type(odd) is not type(part):
                yield (*path, key), odd, _with(value, key, odd)
        for where, what, changed in _of_json(part, (*path, key)):
            yield where, what, _with(value, key, changed)


def _with(value, key, part):
    changed = copy.copy(value)
    changed[key] = part
    return changed


def _of_xml(text):
    """Elements that are dropped, or hold a word or nothing; in a path rows are numbers."""
    root = ET.fromstring(text)

    def walk(element, path):
        for number, child in enumerate(list(element)):
            row = child.tag.endswith("item")
            if row and number:
                continue
            where = (*path, number if row else (child.tag, number))
            element.remove(child)
            yield where, DROPPED, ET.tostring(root, encoding="unicode")
            element.insert(number, child)
            if len(child) == 0:
                was = child.text
                for odd in ("odd", None):
                    child.text = odd
                    if odd != was:
                        yield where, odd, ET.tostring(root, encoding="unicode")
                child.text = was
            yield from walk(child, where)

    yield from walk(root, ())
