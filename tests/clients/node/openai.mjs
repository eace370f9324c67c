// The official OpenAI SDK for Node: Chat Completions and Responses.

import assert from 'node:assert/strict';
import { KEY, MODEL, URL, WEATHER, main, within } from './cases.mjs';
import OpenAI from 'openai';

const client = new OpenAI({ baseURL: `${URL}/v1`, apiKey: KEY, maxRetries: 0, timeout: 60_000 });
const at = (key) => (key ? client.withOptions({ apiKey: key }) : client);

function failure(error) {
  const { status, headers, message } = error;
  if (error instanceof OpenAI.APIConnectionTimeoutError) return { kind: 'timeout', message };
  if (error instanceof OpenAI.APIConnectionError || !(error instanceof OpenAI.APIError)) throw error;
  if (status === undefined) return { kind: 'stream', message };
  for (const field of ['message', 'type', 'param', 'code']) assert(field in error.error, JSON.stringify(error.error));
  assert(error.requestID, [...headers].join());
  return { kind: 'status', status, headers, message };
}

const dataUrl = (image) => `data:image/png;base64,${image}`;

const chat = {
  name: 'chat',
  failure,
  user: (text, image) => {
    if (!image) return [{ role: 'user', content: text }];
    const picture = { type: 'image_url', image_url: { url: dataUrl(image) } };
    return [{ role: 'user', content: [{ type: 'text', text }, picture] }];
  },
  results: (texts) => Object.entries(texts).map(([id, content]) => ({ role: 'tool', tool_call_id: id, content })),
  options: ({ tools, schema, thinks }) => ({
    max_completion_tokens: thinks ? 2048 : 64,
    ...(tools && {
      tools: [{ type: 'function', function: { name: 'weather', description: 'The weather', parameters: WEATHER } }],
    }),
    ...(schema && {
      response_format: { type: 'json_schema', json_schema: { name: 'report', schema, strict: true } },
    }),
    ...(thinks && { reasoning_effort: 'low' }),
  }),
  ask: async (messages, options) => {
    const body = { model: options.model ?? MODEL, messages, ...chat.options(options) };
    return chat.answer(await at(options.key).chat.completions.create(body, within(options)));
  },
  stream: async (messages, options) => {
    const body = { model: options.model ?? MODEL, messages, ...chat.options(options), stream_options: { include_usage: true } };
    const stream = client.chat.completions.stream(body, within(options));
    let pieces = 0;
    let reasoning = '';
    for await (const chunk of stream) {
      pieces += 1;
      reasoning += chunk.choices[0]?.delta.reasoning_content ?? '';
    }
    return { ...chat.answer(await stream.finalChatCompletion()), pieces, reasoning };
  },
  answer: ({ choices: [{ message, finish_reason: finish }], usage }) => ({
    text: message.content ?? '',
    calls: (message.tool_calls ?? []).map((call) => [call.id, call.function.name, JSON.parse(call.function.arguments)]),
    reasoning: message.reasoning_content ?? '',
    finish,
    usage: [usage.prompt_tokens, usage.prompt_tokens_details?.cached_tokens ?? 0, usage.completion_tokens],
    turn: [message],
  }),
};

const responses = {
  name: 'responses',
  failure,
  user: (text, image) => {
    const content = [{ type: 'input_text', text }];
    if (image) content.push({ type: 'input_image', detail: 'auto', image_url: dataUrl(image) });
    return [{ role: 'user', content }];
  },
  results: (texts) =>
    Object.entries(texts).map(([id, output]) => ({ type: 'function_call_output', call_id: id, output })),
  options: ({ tools, schema, thinks }) => ({
    max_output_tokens: thinks ? 2048 : 64,
    store: false,
    ...(tools && {
      tools: [{ type: 'function', name: 'weather', description: 'The weather', strict: true, parameters: WEATHER }],
    }),
    ...(schema && { text: { format: { type: 'json_schema', name: 'report', schema, strict: true } } }),
    ...(thinks && { reasoning: { effort: 'low', summary: 'auto' }, include: ['reasoning.encrypted_content'] }),
  }),
  ask: async (input, options) => {
    const body = { model: options.model ?? MODEL, input, ...responses.options(options) };
    return responses.answer(await at(options.key).responses.create(body, within(options)));
  },
  stream: async (input, options) => {
    const body = { model: options.model ?? MODEL, input, ...responses.options(options) };
    const stream = client.responses.stream(body, within(options));
    let pieces = 0;
    for await (const event of stream) {
      pieces += event.type.endsWith('.delta') ? 1 : 0;
      if (event.type === 'response.failed') {
        const { error } = event.response;
        throw new OpenAI.APIError(undefined, error, error.message, undefined);
      }
    }
    return { ...responses.answer(await stream.finalResponse()), pieces };
  },
  answer: ({ output, output_text: text, status, usage }) => {
    const calls = output.filter((item) => item.type === 'function_call');
    const thoughts = output.filter((item) => item.type === 'reasoning').flatMap((item) => item.summary);
    return {
      text: text ?? '',
      calls: calls.map((call) => [call.call_id, call.name, JSON.parse(call.arguments)]),
      reasoning: thoughts.map((part) => part.text).join(''),
      finish: { completed: calls.length ? 'tool_calls' : 'stop', incomplete: 'length' }[status],
      usage: [usage.input_tokens, usage.input_tokens_details.cached_tokens, usage.output_tokens],
      // The helper adds fields of its own, which no request may hold.
      turn: output.map(({ parsed_arguments: _, ...item }) => withoutParsed(item)),
    };
  },
};

function withoutParsed(item) {
  if (!Array.isArray(item.content)) return item;
  return { ...item, content: item.content.map(({ parsed: _, ...part }) => part) };
}

async function models() {
  const listed = [];
  for await (const model of client.models.list()) listed.push(model.id);
  assert(listed.includes(MODEL), listed.join());
  assert.equal((await client.models.retrieve(MODEL)).id, MODEL);
}

await main([chat, responses], { models });
