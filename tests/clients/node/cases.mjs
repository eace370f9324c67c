// What every protocol of every SDK must do, written once over a small adapter for each protocol. The same cases as in
// ../cases.py, which says what the environment holds and what is printed.

import assert from 'node:assert/strict';
import net from 'node:net';

// No test talks to anybody else.
const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...given) {
  const { host } = [given].flat(2)[0] ?? {};
  if (!['127.0.0.1', '::1', undefined].includes(host)) throw new Error(`only the gateway is talked to, not ${host}`);
  return connect.apply(this, given);
};

export const { HUB_URL: URL, HUB_KEY: KEY, HUB_MODEL: MODEL } = process.env;
export const PLAIN = process.env.HUB_CASES === 'plain';
// The SDKs refuse a timeout that is there and undefined.
export const within = ({ timeoutMs }) => (timeoutMs ? { timeout: timeoutMs } : {});
export const UNKNOWN_KEY = 'tokenhub_' + 'f'.repeat(64);
const failing = (how) => ({ model: `${MODEL}-${how}` });
const UNKNOWN_MODEL = 'nobody-has-this';
// One dot.
const PNG = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==';
export const WEATHER = {
  type: 'object',
  properties: { city: { type: 'string' } },
  required: ['city'],
  additionalProperties: false,
};
const REPORT = {
  type: 'object',
  properties: { city: { type: 'string' }, degrees_celsius: { type: 'integer' } },
  required: ['city', 'degrees_celsius'],
  additionalProperties: false,
};
const equal = assert.deepStrictEqual;

// An adapter has `name`, `user(text, image)`, `results({id: text})`, `failure(error)` and `ask` and `stream` of
// (history, {tools, schema, thinks, key, model, timeoutMs}). Both give {text, calls: [id, name, input], reasoning,
// finish, usage: [input, cached, output], turn, pieces}. A failure is {kind: 'status' | 'timeout' | 'stream', status,
// message, headers}.

function counted({ text, finish, usage }) {
  if (PLAIN) {
    assert(text && usage[0] > 0 && usage[2] > 0, JSON.stringify({ text, usage }));
    assert(['stop', 'length'].includes(finish), finish);
  } else {
    equal([text, finish, usage], ['one two three', 'stop', [11, 0, 3]]);
  }
}

async function toolTurns(ask, adapter) {
  const history = adapter.user('The weather in one city?');
  const asked = await ask(history, { tools: true });
  equal([asked.calls, asked.finish], [[['call_1', 'weather', { city: 'Oslo' }]], 'tool_calls']);
  history.push(...asked.turn, ...adapter.results({ call_1: 'rain in Oslo' }));
  const told = await ask(history, { tools: true });
  equal([told.text, told.calls, told.finish], ['It rains in Oslo.', [], 'stop']);
}

async function twoToolTurns(ask, adapter) {
  const history = adapter.user('The weather in two cities?');
  const asked = await ask(history, { tools: true });
  equal(asked.text, 'I ask for both.');
  equal(asked.calls, [['call_1', 'weather', { city: 'Oslo' }], ['call_2', 'weather', { city: 'Cairo' }]]);
  history.push(...asked.turn, ...adapter.results({ call_1: 'fog in Oslo', call_2: 'sun in Cairo' }));
  equal((await ask(history, { tools: true })).text, 'Fog and sun.');
}

async function reasoningTurns(ask, adapter) {
  const options = { tools: true, thinks: true };
  const history = adapter.user('Think, then ask.');
  const asked = await ask(history, options);
  equal([asked.reasoning, asked.calls], ['The city is Bergen.', [['call_1', 'weather', { city: 'Bergen' }]]]);
  history.push(...asked.turn, ...adapter.results({ call_1: 'snow in Bergen' }));
  equal((await ask(history, options)).text, 'It snows in Bergen.');
}

async function refused(adapter, status, act) {
  const failure = await failureOf(adapter, act);
  equal([failure.kind, failure.status], ['status', status === 500 ? failure.status : status], failure.message);
  assert(status !== 500 || failure.status >= 500, failure.status);
  return failure;
}

async function failureOf(adapter, act) {
  let answer;
  try {
    answer = await act();
  } catch (error) {
    return adapter.failure(error);
  }
  throw new Error(`an error was expected, not ${JSON.stringify(answer)}`);
}

const plainCases = {
  whole: async ({ ask, user }) => counted(await ask(user('Count to three.'), {})),
  streamed: async ({ stream, user }) => {
    const answer = await stream(user('Count to three.'), {});
    counted(answer);
    assert(answer.pieces > 1, answer.pieces);
  },
};

const scriptedCases = {
  tool: (adapter) => toolTurns(adapter.ask, adapter),
  'tool streamed': (adapter) => toolTurns(adapter.stream, adapter),
  'two tools': (adapter) => twoToolTurns(adapter.ask, adapter),
  'two tools streamed': (adapter) => twoToolTurns(adapter.stream, adapter),
  structured: async ({ ask, user }) => {
    const answer = await ask(user('How warm is it?'), { schema: REPORT });
    equal(JSON.parse(answer.text), { city: 'Oslo', degrees_celsius: 7 });
  },
  // The reply depends on the picture: anything else would come back as an echo.
  image: async ({ ask, user }) => equal((await ask(user('What is this?', PNG), {})).text, 'a red dot'),
  reasoning: (adapter) => reasoningTurns(adapter.ask, adapter),
  'reasoning streamed': (adapter) => reasoningTurns(adapter.stream, adapter),
  cached: async ({ ask, stream, user }) => {
    for (const act of [ask, stream]) equal((await act(user('Count from the cache.'), {})).usage, [100, 40, 10]);
  },
  'bad request': async (adapter) => {
    for (const ask of [adapter.ask, adapter.stream]) {
      const failure = await refused(adapter, 400, () => ask(adapter.user('Refuse the request.'), {}));
      assert.match(failure.message, /the request is refused/);
    }
  },
  'wrong key': (adapter) => refused(adapter, 401, () => adapter.ask(adapter.user('hello'), { key: UNKNOWN_KEY })),
  'unknown model': async (adapter) => {
    const failure = await refused(adapter, 404, () => adapter.ask(adapter.user('hello'), { model: UNKNOWN_MODEL }));
    assert(failure.message.includes(UNKNOWN_MODEL), failure.message);
  },
  'rate limit': async (adapter) => {
    const failure = await refused(adapter, 429, () => adapter.ask(adapter.user('Say that it is too much.'), failing('limited')));
    const headers = new Headers(failure.headers);
    assert(Number(headers.get('retry-after')) >= 1, JSON.stringify([...headers]));
  },
  'server error': (adapter) => refused(adapter, 500, () => adapter.ask(adapter.user('Fail inside.'), failing('failing'))),
  late: async (adapter) => {
    for (const ask of [adapter.ask, adapter.stream]) {
      const failure = await failureOf(adapter, () => ask(adapter.user('Answer late.'), { timeoutMs: 500 }));
      equal(failure.kind, 'timeout', failure.message);
    }
  },
  // A broken answer must not look like a whole one, and the break must be told in the protocol's own way.
  'broken stream': async (adapter) => {
    const failure = await failureOf(adapter, () => adapter.stream(adapter.user('Break off.'), failing('breaking')));
    equal(failure.kind, 'stream', failure.message);
  },
};

// Runs the cases of all adapters, then the others, one after the other.
export async function main(adapters, others = {}) {
  const cases = PLAIN ? plainCases : { ...plainCases, ...scriptedCases };
  const all = adapters.flatMap((adapter) =>
    Object.entries(cases).map(([name, act]) => [`${adapter.name}: ${name}`, () => act(adapter)]),
  );
  for (const [name, act] of [...all, ...Object.entries(others)]) {
    let result = { case: name, ok: true };
    try {
      await act();
    } catch (error) {
      process.exitCode = 1;
      result = { case: name, ok: false, error: error?.stack ?? String(error) };
    }
    console.log(JSON.stringify(result));
  }
}
