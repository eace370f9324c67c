"""The official OpenAI SDK: Chat Completions, Responses, embeddings."""

import json
import time

from cases import KEY, MODEL, PLAIN, UPSTREAM, URL, WEATHER, Answer, adapter_cases, equal, main, refused

import openai

client = openai.OpenAI(base_url=URL + "/v1", api_key=KEY, max_retries=0, timeout=60)


class OpenAi:
    """What Chat Completions and Responses share."""

    sdk = openai
    client = client

    def check_error(self, error):
        assert {"message", "type", "param", "code"} <= set(error.body), error.body
        assert error.request_id, error.response.headers

    def at(self, key):
        return client if key is None else client.with_options(api_key=key)


class Chat(OpenAi):
    name = "chat"

    def user(self, text, image=None):
        if image is None:
            return [{"role": "user", "content": text}]
        picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}}
        return [{"role": "user", "content": [{"type": "text", "text": text}, picture]}]

    def results(self, texts):
        return [{"role": "tool", "tool_call_id": id, "content": text} for id, text in texts.items()]

    def options(self, tools, schema, thinks):
        options = {"max_completion_tokens": 2048 if thinks else 64}
        if tools:
            function = {"name": "weather", "description": "The weather in a city", "parameters": WEATHER}
            options["tools"] = [{"type": "function", "function": function}]
        if schema:
            wanted = {"name": "report", "schema": schema, "strict": True}
            options["response_format"] = {"type": "json_schema", "json_schema": wanted}
        if thinks:
            options["reasoning_effort"] = "low"
        return options

    def ask(self, history, tools=False, schema=None, thinks=False, key=None, model=MODEL, timeout=None):
        completions = self.at(key).chat.completions
        options = self.options(tools, schema, thinks)
        return self.answer(completions.create(model=model, messages=history, timeout=timeout, **options))

    def stream(self, history, tools=False, schema=None, thinks=False, model=MODEL, timeout=None):
        options = self.options(tools, schema, thinks) | {"stream_options": {"include_usage": True}}
        pieces = 0
        with client.chat.completions.stream(model=model, messages=history, timeout=timeout, **options) as stream:
            thought = ""
            for event in stream:
                if event.type == "chunk":
                    pieces += 1
                    for choice in event.chunk.choices:
                        thought += getattr(choice.delta, "reasoning_content", None) or ""
            try:
                completion = stream.get_final_completion()
            except openai.LengthFinishReasonError as error:
                completion = error.completion
        answer = self.answer(completion)
        answer.pieces, answer.reasoning = pieces, thought
        return answer

    def answer(self, completion):
        choice, usage = completion.choices[0], completion.usage
        message = choice.message
        calls = [(c.id, c.function.name, json.loads(c.function.arguments)) for c in message.tool_calls or []]
        details = usage.prompt_tokens_details
        cached = (details.cached_tokens or 0) if details else 0
        equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
        return Answer(
            text=message.content or "",
            calls=calls,
            reasoning=getattr(message, "reasoning_content", None) or "",
            finish=choice.finish_reason,
            usage=(usage.prompt_tokens, cached, usage.completion_tokens),
            turn=[message.to_dict()],
        )


class Responses(OpenAi):
    name = "responses"

    def user(self, text, image=None):
        content = [{"type": "input_text", "text": text}]
        if image is not None:
            content.append({"type": "input_image", "detail": "auto", "image_url": f"data:image/png;base64,{image}"})
        return [{"role": "user", "content": content}]

    def results(self, texts):
        return [{"type": "function_call_output", "call_id": id, "output": text} for id, text in texts.items()]

    def options(self, tools, schema, thinks):
        options = {"max_output_tokens": 2048 if thinks else 64, "store": False}
        if tools:
            tool = {"type": "function", "name": "weather", "description": "The weather in a city", "strict": True}
            options["tools"] = [tool | {"parameters": WEATHER}]
        if schema:
            options["text"] = {"format": {"type": "json_schema", "name": "report", "schema": schema, "strict": True}}
        if thinks:
            options["reasoning"] = {"effort": "low", "summary": "auto"}
            options["include"] = ["reasoning.encrypted_content"]
        return options

    def ask(self, history, tools=False, schema=None, thinks=False, key=None, model=MODEL, timeout=None):
        options = self.options(tools, schema, thinks)
        return self.answer(self.at(key).responses.create(model=model, input=history, timeout=timeout, **options))

    def stream(self, history, tools=False, schema=None, thinks=False, model=MODEL, timeout=None):
        options = self.options(tools, schema, thinks)
        pieces, numbers, types, last = 0, [], [], None
        with client.responses.create(model=model, input=history, stream=True, timeout=timeout, **options) as stream:
            for event in stream:
                pieces += event.type.endswith(".delta")
                numbers.append(event.sequence_number)
                types.append(event.type)
                last = event
        equal(numbers, list(range(len(numbers))))
        equal(types[0], "response.created")
        if last.type == "response.failed":
            error = last.response.error
            raise openai.APIError(error.message, request=None, body=error.to_dict())
        assert last.type in ("response.completed", "response.incomplete"), types
        equal(types.count("response.output_item.added"), types.count("response.output_item.done"))
        answer = self.answer(last.response)
        answer.pieces = pieces
        return answer

    def answer(self, response):
        items, usage = response.output, response.usage
        calls = [(i.call_id, i.name, json.loads(i.arguments)) for i in items if i.type == "function_call"]
        thoughts = [part.text for i in items if i.type == "reasoning" for part in i.summary]
        ends = {"completed": "tool_calls" if calls else "stop", "incomplete": "length"}
        equal(usage.total_tokens, usage.input_tokens + usage.output_tokens)
        return Answer(
            text=response.output_text,
            calls=calls,
            reasoning="".join(thoughts),
            finish=ends[response.status],
            usage=(usage.input_tokens, usage.input_tokens_details.cached_tokens, usage.output_tokens),
            turn=[item.to_dict() for item in items],
        )


def embeddings():
    answer = client.embeddings.create(model=MODEL, input=["one", "two"])
    equal([one.index for one in answer.data], [0, 1])
    assert all(len(one.embedding) > 0 for one in answer.data) and answer.usage.prompt_tokens > 0, answer.usage


def too_large():
    # Asked once for all clients: the limit of 32 MiB is the gateway's.
    chat = Chat()
    refused(chat, openai.APIStatusError, lambda: chat.ask(chat.user("x" * (33 << 20))), status=413)


def background():
    response = client.responses.create(model=MODEL, input="Count to three.", background=True)
    assert response.status in ("queued", "in_progress"), response
    deadline = time.monotonic() + 30
    while response.status in ("queued", "in_progress") and time.monotonic() < deadline:
        time.sleep(0.05)
        response = client.responses.retrieve(response.id)
    equal((response.status, response.output_text, response.error), ("completed", "one two three", None))
    # What has ended stays as it is.
    equal(client.responses.cancel(response.id).status, "completed")


def cancelled():
    response = client.responses.create(model=MODEL, input="Answer late.", background=True)
    stopped = client.responses.cancel(response.id)
    equal((stopped.id, stopped.status, stopped.output), (response.id, "cancelled", []))
    equal(client.responses.retrieve(response.id).status, "cancelled")


others = [] if PLAIN else [("background", background), ("cancelled", cancelled)]
# Only one kind of upstream has embeddings.
if UPSTREAM == "openai" and not PLAIN:
    others += [("embeddings", embeddings), ("too large", too_large)]
main(adapter_cases(Chat()), adapter_cases(Responses()), others)
