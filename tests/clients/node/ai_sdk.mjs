// The Vercel AI SDK with its providers for each protocol: one interface above, three wire forms below.

import { KEY, MODEL, URL, WEATHER, main } from './cases.mjs';
import { APICallError, Output, generateText, jsonSchema, streamText, tool } from 'ai';
import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';

// An AI SDK that warns prints among the results.
globalThis.AI_SDK_LOG_WARNINGS = false;

const FINISHES = { stop: 'stop', length: 'length', 'tool-calls': 'tool_calls' };

function failure(error) {
  // An error that the stream itself told; a connection that just ends is another one.
  if (error.name === 'AI_StreamProviderError') return { kind: 'stream', message: error.message };
  if (error.name === 'TimeoutError') return { kind: 'timeout', message: error.message };
  if (!APICallError.isInstance(error) || error.statusCode === undefined) throw error;
  return { kind: 'status', status: error.statusCode, headers: error.responseHeaders, message: error.message };
}

// `at(key)` gives a function from a model's name to the model; `thinks` are the options that ask for reasoning, `always`
// those of every other call.
function adapter(name, at, thinks, always = {}) {
  const settings = (messages, options) => ({
    model: at(options.key ?? KEY)(options.model ?? MODEL),
    messages,
    maxRetries: 0,
    maxOutputTokens: options.thinks ? 2048 : 64,
    abortSignal: options.timeoutMs && AbortSignal.timeout(options.timeoutMs),
    // Without `execute` the calls come back, as those of the other SDKs do.
    ...(options.tools && {
      tools: { weather: tool({ description: 'The weather in a city', inputSchema: jsonSchema(WEATHER) }) },
    }),
    ...(options.schema && { output: Output.object({ schema: jsonSchema(options.schema) }) }),
    providerOptions: options.thinks ? thinks : always,
  });
  const answer = ({ text, toolCalls, reasoningText, finishReason, usage, messages }) => ({
    text,
    calls: toolCalls.map((call) => [call.toolCallId, call.toolName, call.input]),
    reasoning: reasoningText ?? '',
    finish: FINISHES[finishReason],
    usage: [usage.inputTokens, usage.inputTokenDetails?.cacheReadTokens ?? 0, usage.outputTokens],
    turn: messages,
  });
  return {
    name,
    failure,
    user: (text, image) => {
      const content = [{ type: 'text', text }];
      if (image) content.push({ type: 'file', data: image, mediaType: 'image/png' });
      return [{ role: 'user', content }];
    },
    results: (texts) => {
      const part = ([id, value]) => ({
        type: 'tool-result',
        toolCallId: id,
        toolName: 'weather',
        output: { type: 'text', value },
      });
      return [{ role: 'tool', content: Object.entries(texts).map(part) }];
    },
    ask: async (history, options) => {
      const result = await generateText(settings(history, options));
      return answer({ ...pick(result), messages: result.response.messages });
    },
    stream: async (history, options) => {
      const result = streamText({ ...settings(history, options), onError: () => {} });
      let pieces = 0;
      for await (const part of result.fullStream) {
        pieces += part.type === 'text-delta' ? 1 : 0;
        if (part.type === 'abort') throw options.timeoutMs ? new DOMException('late', 'TimeoutError') : part;
        if (part.type === 'error') throw part.error;
      }
      const [text, toolCalls, reasoningText, finishReason, usage, response] = await Promise.all([
        result.text,
        result.toolCalls,
        result.reasoningText,
        result.finishReason,
        result.usage,
        result.response,
      ]);
      return { ...answer({ text, toolCalls, reasoningText, finishReason, usage, messages: response.messages }), pieces };
    },
  };
}

const pick = ({ text, toolCalls, reasoningText, finishReason, usage }) => ({
  text,
  toolCalls,
  reasoningText,
  finishReason,
  usage,
});

const baseURL = `${URL}/v1`;
const openAi = (key) => createOpenAI({ baseURL, apiKey: key });
const compatible = (key) =>
  createOpenAICompatible({ name: 'hub', baseURL, apiKey: key, includeUsage: true, supportsStructuredOutputs: true });

await main([
  adapter('compatible chat', compatible, { hub: { reasoningEffort: 'low' } }),
  // Without `store: false` this SDK sends references to earlier items, which only a provider of the protocol can resolve.
  adapter(
    'responses',
    openAi,
    { openai: { forceReasoning: true, reasoningEffort: 'low', reasoningSummary: 'auto', store: false } },
    { openai: { store: false } },
  ),
  adapter('messages', (key) => createAnthropic({ baseURL, apiKey: key }), {
    anthropic: { thinking: { type: 'enabled', budgetTokens: 1024 } },
  }),
]);
