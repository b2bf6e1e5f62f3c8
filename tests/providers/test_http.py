"""What an API's refusal says, in the shapes that vendors use."""

import asyncio
import http.server
import threading

import pytest

from towline import errors
from towline.clock import RealClock
from towline.providers.http import Api, Rule


@pytest.fixture
def refusing():
    """An API that answers everything with what the test put into `said`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = self.server.said.encode()
            self.send_response(self.server.status)
            for name, value in self.server.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args):
            """Say nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    server.status, server.headers = 400, {}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def refusal(server, said, rules=()):
    server.said = said
    base_url = f"http://127.0.0.1:{server.server_port}"
    with pytest.raises(errors.ProviderError) as caught:
        asyncio.run(Api("acme", base_url, RealClock(), dict, rules=rules).send("GET", "/x"))
    return caught.value


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ('{"error": {"code": "a/b", "message": "all taken"}}', "all taken"),
        ('{"id": "a_b", "message": "all taken"}', "all taken"),
        ('{"error": "all taken"}', "all taken"),
        ('{"error": "all taken", "id": "request-7"}', "all taken"),
        ('{"success": false, "error": "a_b", "msg": "all taken"}', "all taken"),
        ('{"detail": "all taken"}', "all taken"),
        ('"all taken"', "all taken"),
        ("all taken", "all taken"),
    ],
)
def test_the_sentence_of_a_refusal_is_shown(refusing, said, shown):
    assert refusal(refusing, said).message == f"acme answers 400: {shown}"


@pytest.mark.parametrize("pattern", ["a_b", "all taken", "^400 a_b all taken$"])
def test_a_rule_sees_the_word_and_the_sentence(refusing, pattern):
    said = '{"success": false, "error": "a_b", "msg": "all taken"}'
    assert type(refusal(refusing, said, [Rule(pattern, errors.NoCapacity)])) is errors.NoCapacity


@pytest.mark.parametrize(
    "said",
    [
        '{"error": {"code": "a/b", "message": "all taken"}}',
        '{"error": "all taken"}',
        '{"success": false, "msg": "all taken"}',
        '{"success": false, "errors": ["all taken"]}',
        '{"status": false, "message": "all taken"}',
        '{"errors": [{"detail": "all taken"}], "data": null}',
    ],
)
def test_a_failure_with_a_good_status_is_an_unknown_outcome(refusing, said):
    refusing.status = 200
    found = refusal(refusing, said)
    assert type(found) is errors.ProviderReplyError
    assert "all taken" in found.message


@pytest.mark.parametrize(
    "said",
    ['{"error": null, "data": []}', '{"success": true, "errors": []}', '{"status": "error"}'],
)
def test_an_answer_that_tells_of_no_failure_is_given_back(refusing, said):
    refusing.status, refusing.said = 200, said
    api = Api("acme", f"http://127.0.0.1:{refusing.server_port}", RealClock(), dict)
    assert asyncio.run(api.send("GET", "/x")) is not None


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ('{"error": "instance i-1 not found"}', errors.NotFound),
        ('{"title": "Not Found", "detail": "pod not found"}', errors.NotFound),
        ("<html>404 Not Found</html>", errors.ProviderReplyError),
        ("", errors.ProviderReplyError),
        ("404 page not found", errors.ProviderReplyError),
        ('{"error": "404 page not found"}', errors.ProviderReplyError),
        ('{"message": "no Route matched with those values"}', errors.ProviderReplyError),
        ('{"message": "Cannot GET /v1/x"}', errors.ProviderReplyError),
        ('{"message": "The requested URL was not found"}', errors.ProviderReplyError),
        ("[]", errors.ProviderReplyError),
    ],
)
def test_only_a_404_in_the_apis_own_form_speaks_of_a_thing(refusing, said, error):
    refusing.status = 404
    assert type(refusal(refusing, said)) is error


def test_a_rule_that_knows_the_words_of_a_404_has_the_last_word(refusing):
    refusing.status = 404
    found = refusal(refusing, "no_such_instance", [Rule("no_such_instance", errors.NotFound)])
    assert type(found) is errors.NotFound


def test_a_further_page_in_a_header_is_an_error(refusing):
    refusing.status, refusing.headers = 200, {"Link": '<http://x/?page=2>; rel="next"'}
    assert "further page" in refusal(refusing, "[]").message
