"""What every protocol of every SDK must do, written once over a small adapter for each protocol.

HUB_URL, HUB_KEY and HUB_MODEL name the gateway and the model. Models with `-limited`, `-failing` and `-breaking` after
that name are there for the failures, so that they cool nothing down for the others. HUB_CASES is `scripted` when the
upstream plays `script.json`, and `plain` when a real model answers, of which only the form is known. HUB_UPSTREAM is
the type of the upstream. Prints one JSON line for each case; the exit code is 1 when one of them failed.
"""

import json
import os
import sys
import traceback
from dataclasses import dataclass, field


def only_loopback(event, arguments):
    """No test talks to anybody else."""
    if event == "socket.connect":
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else address
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if host not in ("127.0.0.1", "::1", b"127.0.0.1", None):
        raise RuntimeError(f"this script talks to the gateway only, not to {host!r}")


sys.addaudithook(only_loopback)

URL = os.environ["HUB_URL"]
KEY = os.environ["HUB_KEY"]
MODEL = os.environ["HUB_MODEL"]
PLAIN = os.environ.get("HUB_CASES") == "plain"
UPSTREAM = os.environ.get("HUB_UPSTREAM", "openai")
UNKNOWN_KEY = "tokenhub_" + "f" * 64
UNKNOWN_MODEL = "nobody-has-this"
# One dot.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
REPORT = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "degrees_celsius": {"type": "integer"}},
    "required": ["city", "degrees_celsius"],
    "additionalProperties": False,
}


@dataclass
class Answer:
    """An answer of any protocol."""

    text: str = ""
    calls: list = field(default_factory=list)  # (id, name, arguments as an object)
    reasoning: str = ""
    finish: str = ""  # stop, length, tool_calls
    usage: tuple = ()  # tokens: input with the cached ones, cached, output
    turn: list = field(default_factory=list)  # what the next request has to repeat
    pieces: int = 1


def adapter_cases(adapter):
    """(name, function) of each case of one protocol."""
    cases = [whole, streamed, models]
    if not PLAIN:
        cases += [tool, tool_streamed, two_tools, two_tools_streamed, structured, image, reasoning, reasoning_streamed]
        cases += [cached, bad_request, wrong_key, unknown_model, rate_limit, server_error, late, broken_stream]
    named = [(case.__name__.replace("_", " "), case) for case in cases]
    return [(f"{adapter.name}: {name}", lambda case=case: case(adapter)) for name, case in named]


def main(*groups):
    """Runs all cases of the groups, one after the other."""
    failed = False
    for name, act in (case for group in groups for case in group):
        result = {"case": name, "ok": True}
        try:
            act()
        except Exception as error:
            failed = True
            result = {"case": name, "ok": False, "error": "".join(traceback.format_exception(error, limit=-4, chain=False))}
        print(json.dumps(result), flush=True)
    sys.exit(1 if failed else 0)


def equal(got, expected):
    assert got == expected, f"{got!r} is not {expected!r}"


def counted(adapter, answer):
    prompt, cached_tokens, output = answer.usage
    if PLAIN:
        assert answer.text and prompt > 0 and output > 0, answer
        assert answer.finish in ("stop", "length"), answer
    else:
        equal((answer.text, answer.finish), ("one two three", "stop"))
        equal((prompt, cached_tokens, output), (11, 0, 3))


def whole(adapter):
    counted(adapter, adapter.ask(adapter.user("Count to three.")))


def streamed(adapter):
    answer = adapter.stream(adapter.user("Count to three."))
    counted(adapter, answer)
    assert answer.pieces > 1, answer


def tool(adapter, ask="ask"):
    history = adapter.user("The weather in one city?")
    asked = getattr(adapter, ask)(history, tools=True)
    equal((asked.calls, asked.finish), ([("call_1", "weather", {"city": "Oslo"})], "tool_calls"))
    history += asked.turn + adapter.results({"call_1": "rain in Oslo"})
    told = getattr(adapter, ask)(history, tools=True)
    equal((told.text, told.calls, told.finish), ("It rains in Oslo.", [], "stop"))


def tool_streamed(adapter):
    tool(adapter, "stream")


def two_tools(adapter, ask="ask"):
    history = adapter.user("The weather in two cities?")
    asked = getattr(adapter, ask)(history, tools=True)
    equal(asked.text, "I ask for both.")
    equal(asked.calls, [("call_1", "weather", {"city": "Oslo"}), ("call_2", "weather", {"city": "Cairo"})])
    history += asked.turn + adapter.results({"call_1": "fog in Oslo", "call_2": "sun in Cairo"})
    equal(getattr(adapter, ask)(history, tools=True).text, "Fog and sun.")


def two_tools_streamed(adapter):
    two_tools(adapter, "stream")


def structured(adapter):
    answer = adapter.ask(adapter.user("How warm is it?"), schema=REPORT)
    equal(json.loads(answer.text), {"city": "Oslo", "degrees_celsius": 7})


def image(adapter):
    # The reply depends on the picture: anything else would come back as an echo.
    equal(adapter.ask(adapter.user("What is this?", image=PNG)).text, "a red dot")


def reasoning(adapter, ask="ask"):
    history = adapter.user("Think, then ask.")
    asked = getattr(adapter, ask)(history, tools=True, thinks=True)
    equal((asked.reasoning, asked.calls), ("The city is Bergen.", [("call_1", "weather", {"city": "Bergen"})]))
    history += asked.turn + adapter.results({"call_1": "snow in Bergen"})
    equal(getattr(adapter, ask)(history, tools=True, thinks=True).text, "It snows in Bergen.")


def reasoning_streamed(adapter):
    reasoning(adapter, "stream")


def cached(adapter):
    for ask in (adapter.ask, adapter.stream):
        equal(ask(adapter.user("Count from the cache.")).usage, (100, 40, 10))


def refused(adapter, error_type, act, status=None):
    try:
        act()
    except error_type as error:
        adapter.check_error(error)
        assert status is None or error.status_code == status, error.status_code
        return error
    raise AssertionError(f"{error_type.__name__} was expected")


def bad_request(adapter):
    for ask in (adapter.ask, adapter.stream):
        error = refused(adapter, adapter.sdk.BadRequestError, lambda: ask(adapter.user("Refuse the request.")))
        assert "the request is refused" in str(error), error


def wrong_key(adapter):
    refused(adapter, adapter.sdk.AuthenticationError, lambda: adapter.ask(adapter.user("hello"), key=UNKNOWN_KEY))


def unknown_model(adapter):
    act = lambda: adapter.ask(adapter.user("hello"), model=UNKNOWN_MODEL)
    assert UNKNOWN_MODEL in str(refused(adapter, adapter.sdk.NotFoundError, act))


def rate_limit(adapter):
    act = lambda: adapter.ask(adapter.user("Say that it is too much."), model=MODEL + "-limited")
    error = refused(adapter, adapter.sdk.RateLimitError, act)
    assert int(error.response.headers["retry-after"]) >= 1, error.response.headers


def server_error(adapter):
    act = lambda: adapter.ask(adapter.user("Fail inside."), model=MODEL + "-failing")
    refused(adapter, adapter.sdk.InternalServerError, act)


def late(adapter):
    for ask in (adapter.ask, adapter.stream):
        try:
            ask(adapter.user("Answer late."), timeout=0.5)
        except adapter.sdk.APITimeoutError:
            continue
        raise AssertionError("a timeout was expected")


def broken_stream(adapter):
    """A broken answer must not look like a whole one."""
    try:
        answer = adapter.stream(adapter.user("Break off."), model=MODEL + "-breaking")
    except adapter.sdk.APIConnectionError as error:
        raise AssertionError("the break must be told in the protocol's own way") from error
    except adapter.sdk.APIError as error:
        # What comes before the first piece is an answer with a status of its own; this one began well.
        equal(getattr(error, "status_code", 200), 200)
        return
    raise AssertionError(f"an error was expected, not {answer}")


def models(adapter):
    listed = [model.id for model in adapter.client.models.list()]
    assert MODEL in listed, listed
    equal(adapter.client.models.retrieve(MODEL).id, MODEL)
