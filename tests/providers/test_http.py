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
            self.send_response(400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args):
            """Say nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
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
