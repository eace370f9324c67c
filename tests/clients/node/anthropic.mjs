// The official Anthropic SDK for Node: Messages and counting tokens.

import assert from 'node:assert/strict';
import { KEY, MODEL, PLAIN, URL, WEATHER, main, within } from './cases.mjs';
import Anthropic from '@anthropic-ai/sdk';

const client = new Anthropic({ baseURL: URL, apiKey: KEY, maxRetries: 0, timeout: 60_000 });
const FINISHES = { end_turn: 'stop', max_tokens: 'length', tool_use: 'tool_calls' };
const TOOL = { name: 'weather', description: 'The weather in a city', input_schema: WEATHER };

const messages = {
  name: 'messages',
  failure: (error) => {
    const { status, headers, message } = error;
    if (error instanceof Anthropic.APIConnectionTimeoutError) return { kind: 'timeout', message };
    if (error instanceof Anthropic.APIConnectionError || !(error instanceof Anthropic.APIError)) throw error;
    assert.equal(error.error.type, 'error', JSON.stringify(error.error));
    if (status === undefined) return { kind: 'stream', message };
    assert(error.error.error.type && error.error.error.message && error.requestID, JSON.stringify(error.error));
    return { kind: 'status', status, headers, message };
  },
  user: (text, image) => {
    const content = [{ type: 'text', text }];
    if (image) content.unshift({ type: 'image', source: { type: 'base64', media_type: 'image/png', data: image } });
    return [{ role: 'user', content }];
  },
  results: (texts) => {
    const block = ([id, content]) => ({ type: 'tool_result', tool_use_id: id, content });
    return [{ role: 'user', content: Object.entries(texts).map(block) }];
  },
  options: ({ tools, schema, thinks }) => ({
    max_tokens: thinks ? 2048 : 64,
    ...(tools && { tools: [TOOL] }),
    ...(schema && { output_config: { format: { type: 'json_schema', schema } } }),
    ...(thinks && { thinking: { type: 'enabled', budget_tokens: 1024 } }),
  }),
  ask: async (history, options) => {
    const body = { model: options.model ?? MODEL, messages: history, ...messages.options(options) };
    const at = options.key ? client.withOptions({ apiKey: options.key }) : client;
    return messages.answer(await at.messages.create(body, within(options)));
  },
  stream: async (history, options) => {
    const body = { model: options.model ?? MODEL, messages: history, ...messages.options(options) };
    const stream = client.messages.stream(body, within(options));
    let pieces = 0;
    for await (const event of stream) pieces += event.type === 'content_block_delta' ? 1 : 0;
    return { ...messages.answer(await stream.finalMessage()), pieces };
  },
  answer: ({ content, stop_reason: reason, usage }) => {
    const of = (type) => content.filter((block) => block.type === type);
    const [cached, written] = [usage.cache_read_input_tokens ?? 0, usage.cache_creation_input_tokens ?? 0];
    return {
      text: of('text').map((block) => block.text).join(''),
      calls: of('tool_use').map((block) => [block.id, block.name, block.input]),
      reasoning: of('thinking').map((block) => block.thinking).join(''),
      finish: FINISHES[reason],
      usage: [usage.input_tokens + cached + written, cached, usage.output_tokens],
      turn: [{ role: 'assistant', content }],
    };
  },
};

async function models() {
  const listed = [];
  for await (const model of client.models.list()) listed.push(model.id);
  assert(listed.includes(MODEL), listed.join());
  assert.equal((await client.models.retrieve(MODEL)).id, MODEL);
}

async function countTokens() {
  const body = { model: MODEL, messages: [{ role: 'user', content: 'Count to three.' }] };
  const bare = (await client.messages.countTokens(body)).input_tokens;
  const withTools = (await client.messages.countTokens({ ...body, tools: [TOOL] })).input_tokens;
  assert(bare > 0 && (PLAIN ? withTools >= bare : withTools > bare), `${bare}, ${withTools}`);
}

await main([messages], { models, 'count tokens': countTokens });
