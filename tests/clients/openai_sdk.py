"""What a user of the official OpenAI SDK meets at a running hub.

HUB_URL and HUB_KEY name the hub. Prints the name of each part that went well; the first that does not ends the script.
"""

import os
import sys


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
        raise RuntimeError(f"this script talks to the hub only, not to {host!r}")


sys.addaudithook(only_loopback)

import openai  # noqa: E402: after the hook

URL = os.environ["HUB_URL"] + "/v1"
client = openai.OpenAI(base_url=URL, api_key=os.environ["HUB_KEY"], max_retries=0, timeout=30)


def user(text):
    return [{"role": "user", "content": text}]


def chat():
    raw = client.chat.completions.with_raw_response.create(
        model="alpha",
        messages=user("hello"),
        temperature=0.2,
        seed=7,
        extra_body={"vendor_field": {"kept": True}},
    )
    assert raw.headers["x-tokenhub-durability"] == "durable", raw.headers
    assert raw.headers["x-request-id"], raw.headers
    completion = raw.parse()
    assert completion.object == "chat.completion"
    assert completion.model == "alpha"
    assert completion.choices[0].message.role == "assistant"
    assert completion.choices[0].message.content == "hello"
    assert completion.choices[0].finish_reason == "stop"
    usage = completion.usage
    assert usage.prompt_tokens > 0 and usage.completion_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def streamed(**options):
    raw = client.chat.completions.with_raw_response.create(
        model="beta", messages=user("count"), stream=True, **options
    )
    assert raw.headers["x-tokenhub-durability"] == "stream", raw.headers
    chunks = list(raw.parse())
    assert all(chunk.object == "chat.completion.chunk" for chunk in chunks)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "one two three", text
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert reasons[-1] == "stop" and not any(reasons[:-1]), reasons
    return chunks


def stream_with_usage():
    chunks = streamed(stream_options={"include_usage": True})
    with_usage = [chunk for chunk in chunks if chunk.usage]
    assert with_usage == chunks[-1:], "the usage comes once, at the end"
    assert chunks[-1].choices == []
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (11, 3)


def stream_without_usage():
    chunks = streamed()
    assert not any(chunk.usage for chunk in chunks), "nobody asked for usage"
    assert all(chunk.choices for chunk in chunks), "a chunk without choices breaks callers who did not ask for it"


def models():
    listed = client.models.list()
    assert {model.id for model in listed} == {"alpha", "beta", "gamma"}
    assert all(model.object == "model" and model.owned_by == "scripted" for model in listed)
    assert client.models.retrieve("beta").id == "beta"
    refused(openai.NotFoundError, "model_not_found", lambda: client.models.retrieve("delta"))


def refused(error_type, code, act):
    try:
        act()
    except error_type as error:
        assert error.code == code, error.body
        assert {"message", "type", "param", "code"} <= set(error.body), error.body
        return error
    raise AssertionError(f"{error_type.__name__} was expected")


def wrong_key():
    stranger = openai.OpenAI(base_url=URL, api_key="tokenhub_" + "f" * 64, max_retries=0)
    # Each of them on the connection of the one before.
    for options in ({}, {"stream": True}) * 10:
        refused(
            openai.AuthenticationError,
            "invalid_api_key",
            lambda: stranger.chat.completions.create(model="alpha", messages=user("wrong key"), **options),
        )


def unknown_model():
    for options in ({}, {"stream": True}):
        error = refused(
            openai.NotFoundError,
            "model_not_found",
            lambda: client.chat.completions.create(model="delta", messages=user("unknown model"), **options),
        )
        assert "delta" in error.message and error.param == "model", error.body


def tools():
    weather = {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather in a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
    messages = user("weather in Oslo")
    ask = {"model": "alpha", "tools": [weather], "tool_choice": "auto"}
    asked = client.chat.completions.create(messages=messages, **ask).choices[0]
    assert asked.finish_reason == "tool_calls"
    assert asked.message.content is None
    call = asked.message.tool_calls[0]
    assert (call.id, call.function.name, call.function.arguments) == ("call_1", "weather", '{"city": "Oslo"}')
    messages += [asked.message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    told = client.chat.completions.create(messages=messages, **ask).choices[0]
    assert told.message.content == "It rains in Oslo."


for part in (chat, stream_with_usage, stream_without_usage, models, wrong_key, unknown_model, tools):
    part()
    print(part.__name__.replace("_", " "), flush=True)
