"""The official Anthropic SDK: Messages and counting tokens."""

from cases import KEY, MODEL, PLAIN, URL, WEATHER, Answer, adapter_cases, main

import anthropic

client = anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0, timeout=60)

FINISHES = {"end_turn": "stop", "max_tokens": "length", "tool_use": "tool_calls"}
TOOL = {"name": "weather", "description": "The weather in a city", "input_schema": WEATHER}


class Messages:
    name = "messages"
    sdk = anthropic
    client = client

    def check_error(self, error):
        types = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error"}
        types |= {429: "rate_limit_error", 500: "api_error", 502: "api_error", 503: "api_error"}
        body = error.body
        assert body["type"] == "error" and body["error"]["type"] == types[error.status_code], body
        assert body["error"]["message"] and error.request_id, body

    def user(self, text, image=None):
        content = [{"type": "text", "text": text}]
        if image is not None:
            source = {"type": "base64", "media_type": "image/png", "data": image}
            content.insert(0, {"type": "image", "source": source})
        return [{"role": "user", "content": content}]

    def results(self, texts):
        blocks = [{"type": "tool_result", "tool_use_id": id, "content": text} for id, text in texts.items()]
        return [{"role": "user", "content": blocks}]

    def options(self, tools, schema, thinks):
        options = {"max_tokens": 2048 if thinks else 64}
        if tools:
            options["tools"] = [TOOL]
        if schema:
            options["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        if thinks:
            options["thinking"] = {"type": "enabled", "budget_tokens": 1024}
        return options

    def ask(self, history, tools=False, schema=None, thinks=False, key=None, model=MODEL, timeout=None):
        at = client if key is None else client.with_options(api_key=key)
        options = self.options(tools, schema, thinks)
        return self.answer(at.messages.create(model=model, messages=history, timeout=timeout, **options))

    def stream(self, history, tools=False, schema=None, thinks=False, model=MODEL, timeout=None):
        options = self.options(tools, schema, thinks)
        pieces, types = 0, []
        with client.messages.stream(model=model, messages=history, timeout=timeout, **options) as stream:
            for event in stream:
                pieces += event.type == "content_block_delta"
                types.append(event.type)
            answer = self.answer(stream.get_final_message())
        assert types[0] == "message_start" and types[-1] == "message_stop", types
        answer.pieces = pieces
        return answer

    def answer(self, message):
        blocks, usage = message.content, message.usage
        cached, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
        return Answer(
            text="".join(block.text for block in blocks if block.type == "text"),
            calls=[(block.id, block.name, block.input) for block in blocks if block.type == "tool_use"],
            reasoning="".join(block.thinking for block in blocks if block.type == "thinking"),
            finish=FINISHES[message.stop_reason],
            usage=(usage.input_tokens + cached + written, cached, usage.output_tokens),
            turn=[{"role": "assistant", "content": [block.to_dict() for block in blocks]}],
        )


def count_tokens():
    messages = [{"role": "user", "content": "Count to three."}]
    bare = client.messages.count_tokens(model=MODEL, messages=messages).input_tokens
    assert bare > 0
    with_tools = client.messages.count_tokens(model=MODEL, messages=messages, tools=[TOOL]).input_tokens
    # The tools are part of what is counted: a client that compacts its history relies on it. The template of a small
    # model may have no place for them.
    assert with_tools >= bare if PLAIN else with_tools > bare, (with_tools, bare)


main(adapter_cases(Messages()), [("count tokens", count_tokens)])
