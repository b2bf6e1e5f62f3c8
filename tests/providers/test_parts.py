"""Parts of a provider's answer: what is missing or of another kind is said by its name."""

import pytest

from towline import errors
from towline.providers import pages, parts

ROW = {"id": 7, "name": "x", "null": None, "port": 22, "in": {"list": ["a", 1, "b"], "usd": "1.5"}}


@pytest.mark.parametrize(
    ("read", "found"),
    [
        (lambda: parts.need(ROW, "in", "list", 0), "a"),
        (lambda: parts.ident(ROW, "id"), "7"),
        (lambda: parts.told(ROW, "null", kind=str), None),
        (lambda: parts.told(ROW, "none", "deeper", kind=str), None),
        (lambda: parts.text(ROW, "none"), ""),
        (lambda: parts.label(ROW, "null"), ""),
        (lambda: parts.port(ROW, "port"), 22),
        (lambda: parts.port({"port": 0}, "port"), None),
        (lambda: parts.words(ROW, "in", "list"), ["a", "b"]),
        (lambda: parts.rate(ROW, "in", "usd"), 1.5),
        (lambda: parts.rate({"usd": -1}, "usd"), 0.0),
        (lambda: parts.number(10**400), None),
    ],
)
def test_what_is_there_is_read(read, found):
    assert read() == found


@pytest.mark.parametrize(
    ("read", "named"),
    [
        (lambda: parts.need(ROW, "none"), "has no none"),
        (lambda: parts.need(ROW, "name", kind=dict), "at name, where an object is due"),
        (lambda: parts.need({"n": True}, "n", kind=int), "at n, where a whole number is due"),
        (lambda: parts.told(ROW, "name", "deeper", kind=str), "at name, where an object is due"),
        (lambda: parts.text(ROW, "id"), "at id, where text is due"),
        (lambda: parts.label(ROW, "none"), "has no none"),
        (lambda: parts.ident(ROW, "null"), "for an id at null"),
        (lambda: parts.ident({"id": True}, "id"), "for an id at id"),
        (lambda: parts.port({"port": 70000}, "port"), "70000 for a port at port"),
        (lambda: parts.rows(None), "no list: None"),
        (lambda: parts.rows([1]), "no list"),
    ],
)
def test_what_is_not_is_named(read, named):
    with pytest.raises(errors.ProviderReplyError, match=named):
        read()


@pytest.mark.parametrize(
    "beside",
    [
        {"next": "https://x/?page=2"}, {"nextToken": "a"}, {"next_page_token": "a"}, {"cursor": "a"},
        {"hasMore": True}, {"is_truncated": True}, {"total": 3}, {"total_count": "3"},
        {"totalItems": 3}, {"count": 3}, {"total_pages": 2}, {"last_page": 2},
        {"meta": {"links": {"next": "a"}}}, {"links": {"pages": {"next": "a"}}},
        {"links": [{"rel": "next", "href": "a"}]}, {"pageInfo": {"hasNextPage": True}},
        {"paging": {"cursors": {"after_token": "a"}}}, {"next": {"page": 2}},
    ],
    ids=str,
)  # fmt: skip
def test_a_sign_of_more_is_not_passed_over(beside):
    with pytest.raises(errors.ProviderReplyError, match="goes on after 2 rows"):
        pages.all_of({"rows": [{}, {}], **beside}, "rows")


@pytest.mark.parametrize(
    "beside",
    [
        {}, {"next": None}, {"next_token": ""}, {"has_more": False}, {"total": 2}, {"count": 2},
        {"total_pages": 1}, {"page": 1, "page_size": 10}, {"links": {"pages": {"first": "a"}}},
        {"links": [{"rel": "self", "href": "a"}]}, {"meta": {"total": 2}}, {"message": "99 more"},
    ],
    ids=str,
)  # fmt: skip
def test_a_list_that_ends_is_whole(beside):
    assert pages.all_of({"rows": [{}, {}], **beside}, "rows") == [{}, {}]
