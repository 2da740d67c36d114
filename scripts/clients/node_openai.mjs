// The calls of OpenAI's client for Node.
//
// run.py starts this and says on standard input where the server is; each row goes to standard output as a line of JSON
// with `call`, `expected`, `outcome` and `note`. Needs the packages openai, zod and ajv beside it.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

import Ajv from 'ajv/dist/2020.js';
import OpenAI, { toFile } from 'openai';
import { zodFunction, zodResponseFormat, zodTextFormat } from 'openai/helpers/zod';
import { z } from 'zod';

const target = JSON.parse(readFileSync(0, 'utf8'));
const { model } = target;
const client = new OpenAI({ baseURL: `${target.url}/v1`, apiKey: target.key, maxRetries: 0 });
const ajv = new Ajv.default({ strict: false });

const messages = [{ role: 'user', content: 'What is the weather in Rome?' }];
const Order = z.object({
  id: z.number().int().min(1).max(9999),
  status: z.enum(['open', 'paid', 'sent']),
  items: z.array(z.string().max(8)).max(3),
});
const Weather = z.object({ city: z.string().max(12), unit: z.enum(['C', 'F']) });
const order = z.toJSONSchema(Order);
const orderFormat = { type: 'json_schema', json_schema: { name: 'order', strict: true, schema: order } };
const parameters = { weather: z.toJSONSchema(Weather), time: z.toJSONSchema(z.object({ zone: z.string().max(6) })) };
const tools = Object.entries(parameters).map(([name, schema]) => ({
  type: 'function',
  function: { name, description: `The ${name}.`, parameters: schema },
}));
const responseTools = tools.map((tool) => ({ type: 'function', strict: true, ...tool.function }));
const slow = { max_tokens: 400, structured_outputs: { regex: '[a-z ]{1500,}' } };
const file = () => toFile(Buffer.from('{}'), 'a.jsonl');

const chat = (fields = {}, options = {}) =>
  client.chat.completions.create({ model, messages, max_tokens: 96, seed: 7, ...fields }, options);
const complete = (fields = {}, options = {}) =>
  client.completions.create({ model, prompt: 'def add(a, b):\n', max_tokens: 24, seed: 7, ...fields }, options);
const respond = (fields = {}) =>
  client.responses.create({ model, input: 'What is the weather in Rome?', max_output_tokens: 96, ...fields });
const all = async (stream) => {
  const chunks = [];
  for await (const chunk of await stream) chunks.push(chunk);
  return chunks;
};
const contents = (chunks) => chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('');

/** The value of a JSON text that the schema must allow. */
function valid(schema, text) {
  const value = JSON.parse(text);
  const { $schema, ...rest } = schema;
  assert(ajv.validate(rest, value), `${ajv.errorsText()}: ${text}`);
  return value;
}

function checkCalls(calls) {
  assert(calls?.length > 0, 'no calls');
  for (const call of calls) valid(parameters[call.function.name], call.function.arguments);
  return calls.map((call) => call.function.name).join(', ');
}

async function settle() {
  for (const deadline = Date.now() + 60_000; ; ) {
    const health = await (await fetch(`${target.url}/health`)).json();
    if (!health.running && !health.waiting && health.blocks_free === health.blocks_total) return;
    assert(Date.now() < deadline, `still busy: ${JSON.stringify(health)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const calls = [];
const works = (name, body) => calls.push([name, 'works', body]);
const refused = (name, expected, body) => calls.push([name, `refused ${expected}`, body]);

works('models.list', async () => assert.deepEqual((await all(client.models.list())).map((one) => one.id), [model]));
works('models.retrieve', async () => assert.equal((await client.models.retrieve(model)).id, model));
refused('models.retrieve, unknown', '404 model_not_found', () => client.models.retrieve('gpt-4o'));

works('chat.completions.create', async () => {
  const reply = await chat();
  assert(reply.choices[0].message.content && reply.usage.completion_tokens > 0);
});
works('chat.completions.create, n, stop, seed, penalties, logit_bias', async () => {
  const fields = { n: 2, stop: ['\n'], temperature: 1, presence_penalty: 0.1, frequency_penalty: 0.1, logit_bias: { 300: -100 } };
  const [one, two] = [await chat(fields), await chat(fields)];
  assert.deepEqual(one.choices.map((choice) => choice.message), two.choices.map((choice) => choice.message));
  assert(one.choices.length === 2 && one.choices.every((choice) => !choice.message.content.includes('\n')));
});
works('chat.completions.create, logprobs, top_logprobs', async () => {
  const tokens = (await chat({ logprobs: true, top_logprobs: 2 })).choices[0].logprobs.content;
  assert(tokens.length > 0 && tokens.every((token) => Number.isFinite(token.logprob) && token.logprob <= 0));
});
works('chat.completions.create, stream', async () => {
  const chunks = await all(chat({ stream: true }));
  assert.equal(contents(chunks), (await chat()).choices[0].message.content);
  return `${chunks.length} chunks`;
});
works('chat.completions.create, stream with usage', async () => {
  const chunks = await all(chat({ stream: true, stream_options: { include_usage: true } }));
  assert.deepEqual(chunks.at(-1).usage, (await chat()).usage);
});
works('chat.completions.stream (helper)', async () => {
  // The helper throws where an answer ends with `length`, so this one cannot.
  const ended = { structured_outputs: { regex: '[a-z ]{3,30}' } };
  const stream = client.chat.completions.stream({ model, messages, max_tokens: 64, seed: 7, ...ended });
  let text = '';
  stream.on('content', (delta) => (text += delta));
  const final = await stream.finalChatCompletion();
  assert.equal(text, final.choices[0].message.content);
});
works('chat.completions.create, tools auto, required, named, none', async () => {
  const named = { type: 'function', function: { name: 'time' } };
  const seen = [];
  for (const choice of ['auto', 'required', named, 'none']) {
    const { message } = (await chat({ tools, tool_choice: choice })).choices[0];
    if (message.tool_calls) seen.push(checkCalls(message.tool_calls));
    if (choice !== 'auto') assert.equal(Boolean(message.tool_calls), choice !== 'none');
  }
  return seen.join('; ');
});
works('chat.completions.create, tools, stream', async () => {
  const chunks = await all(chat({ tools, tool_choice: 'required', parallel_tool_calls: false, stream: true }));
  const pieces = chunks.flatMap((chunk) => chunk.choices[0].delta.tool_calls ?? []);
  const called = { name: pieces[0].function.name, arguments: pieces.map((piece) => piece.function.arguments).join('') };
  return checkCalls([{ function: called }]);
});
works('chat.completions.parse, zodFunction', async () => {
  const made = [zodFunction({ name: 'weather', parameters: Weather })];
  const reply = await client.chat.completions.parse({ model, messages, tools: made, tool_choice: 'required', max_tokens: 96 });
  Weather.parse(reply.choices[0].message.tool_calls[0].function.parsed_arguments);
});
works('chat.completions.runTools', async () => {
  const seen = [];
  const weather = (args) => (seen.push(Weather.parse(args)), '17 degrees');
  const made = { type: 'function', function: { name: 'weather', parse: JSON.parse, parameters: parameters.weather, function: weather } };
  const fields = { model, messages, tools: [made], tool_choice: { type: 'function', function: { name: 'weather' } }, max_tokens: 96 };
  await client.chat.completions.runTools(fields).done();
  assert(seen.length === 1, JSON.stringify(seen));
});
works('chat.completions.create, response_format=json_object', async () => {
  valid({ type: 'object' }, (await chat({ response_format: { type: 'json_object' } })).choices[0].message.content);
});
works('chat.completions.create, response_format=json_schema, strict, 4 seeds', async () => {
  for (const seed of [1, 2, 3, 4]) valid(order, (await chat({ seed, response_format: orderFormat })).choices[0].message.content);
});
works('chat.completions.parse, zodResponseFormat', async () => {
  const fields = { model, messages, max_tokens: 120, response_format: zodResponseFormat(Order, 'order') };
  Order.parse((await client.chat.completions.parse(fields)).choices[0].message.parsed);
});
works('chat.completions.stream, zodResponseFormat', async () => {
  const fields = { model, messages, max_tokens: 120, response_format: zodResponseFormat(Order, 'order') };
  Order.parse((await client.chat.completions.stream(fields).finalChatCompletion()).choices[0].message.parsed);
});
works('chat, constraints beside the fields', async () => {
  const reply = await chat({ constraints: { regex_patterns: [{ any_of: [{ pattern: '[a-f]{4}' }], match: 'full' }] } });
  assert.match(reply.choices[0].message.content, /^[a-f]{4}$/);
});
refused('chat.completions.create, image', '400 unsupported_parameter', () =>
  chat({ messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'data:image/png;base64,AA==' } }] }] }));
refused('chat.completions.create, unknown field', '400 unknown_parameter', () => chat({ no_such_field: 1 }));
refused('chat.completions.create, reasoning_effort', '400 unsupported_parameter', () => chat({ reasoning_effort: 'low' }));
refused('chat.completions.create, store', '400 unsupported_parameter', () => chat({ store: true }));
refused('chat.completions.create, schema that cannot be kept', '422 unsupported_schema', () =>
  chat({ response_format: { type: 'json_schema', json_schema: { name: 'odd', schema: { type: 'array', uniqueItems: true } } } }));
refused('chat.completions.list', '405 method_not_allowed', () => client.chat.completions.list());
refused('chat.completions.retrieve', '404 unsupported_endpoint', () => client.chat.completions.retrieve('chatcmpl-1'));

works('completions.create', async () => assert((await complete()).choices[0].text));
works('completions.create, stream with usage', async () => {
  const chunks = await all(complete({ stream: true, stream_options: { include_usage: true } }));
  const whole = await complete();
  assert.equal(chunks.map((chunk) => chunk.choices[0]?.text ?? '').join(''), whole.choices[0].text);
  assert.deepEqual(chunks.at(-1).usage, whole.usage);
});
works('completions.create, suffix', async () => {
  const reply = await complete({ prompt: 'def add(a, b):\n    ', suffix: '\n\nprint(add(1, 2))\n' });
  assert(reply.provenance[0].fim.suffix_tokens > 0);
});
works('completions.create, echo, best_of, n, logprobs, prompts', async () => {
  assert((await complete({ prompt: 'def f', echo: true })).choices[0].text.startsWith('def f'));
  assert.equal((await complete({ best_of: 3, n: 2, temperature: 1 })).choices.length, 2);
  assert((await complete({ logprobs: 2 })).choices[0].logprobs.tokens.length > 0);
  assert.equal((await complete({ prompt: ['a', 'b'] })).choices.length, 2);
});
works('completions.create, echo and logprobs', async () => {
  const { text, logprobs } = (await complete({ prompt: 'def f', echo: true, logprobs: 1, max_tokens: 0 })).choices[0];
  assert(text === 'def f' && logprobs.tokens.length > 1);
  assert(logprobs.token_logprobs[0] === null && logprobs.token_logprobs.slice(1).every(Number.isFinite));
});

works('responses.create', async () => {
  const reply = await respond({ instructions: 'Be brief.' });
  assert(reply.output_text && reply.usage.output_tokens > 0);
});
works('responses.create, stream', async () => {
  const events = await all(respond({ stream: true, seed: 7 }));
  const deltas = events.filter((event) => event.type === 'response.output_text.delta');
  assert.equal(deltas.map((event) => event.delta).join(''), (await respond({ seed: 7 })).output_text);
});
works('responses.parse, zodTextFormat', async () => {
  const fields = { model, input: 'An order.', max_output_tokens: 120, text: { format: zodTextFormat(Order, 'order') } };
  Order.parse((await client.responses.parse(fields)).output_parsed);
});
works('responses.stream (helper)', async () => {
  const fields = { model, input: 'An order.', max_output_tokens: 120, text: { format: zodTextFormat(Order, 'order') } };
  Order.parse((await client.responses.stream(fields).finalResponse()).output_parsed);
});
works('responses.create, tools, results sent back', async () => {
  const first = await respond({ tools: responseTools, tool_choice: 'required', parallel_tool_calls: false });
  const [call] = first.output;
  valid(parameters[call.name], call.arguments);
  const input = [...messages, ...first.output, { type: 'function_call_output', call_id: call.call_id, output: '17' }];
  assert((await respond({ input, tools: responseTools, tool_choice: 'none' })).output_text);
});
refused('responses.create, store', '400 unsupported_parameter', () => respond({ store: true }));
refused('responses.create, previous_response_id', '400 unsupported_parameter', () => respond({ previous_response_id: 'resp_1' }));
refused('responses.create, web search', '400 unsupported_parameter', () => respond({ tools: [{ type: 'web_search' }] }));
refused('responses.retrieve', '404 unsupported_endpoint', () => client.responses.retrieve('resp_1'));

works('post /tokenize and /detokenize', async () => {
  const { tokens } = await client.post('/tokenize', { body: { content: 'x = "\u4e16"\n' } });
  assert.equal((await client.post('/detokenize', { body: { tokens } })).content, 'x = "\u4e16"\n');
});
works('withResponse, asResponse', async () => {
  const { data, response } = await complete({ max_tokens: 2 }).withResponse();
  assert(data.choices.length === 1 && response.headers.get('x-request-id'));
  assert.equal((await complete({ max_tokens: 2 }).asResponse()).status, 200);
});
works('8 chats at once', async () => {
  const seeds = [0, 1, 2, 3, 4, 5, 6, 7];
  const text = async (seed) => (await chat({ seed, max_tokens: 24 })).choices[0].message.content;
  const together = await Promise.all(seeds.map(text));
  for (const seed of seeds) assert.equal(together[seed], await text(seed));
});
works('a stream that is aborted in its middle', async () => {
  const stream = await chat({ stream: true, ...slow });
  let seen = 0;
  for await (const _ of stream) if (++seen === 4) stream.controller.abort();
  await settle();
});
works('a timeout of the client', async () => {
  await assert.rejects(chat(slow, { timeout: 50 }), OpenAI.APIConnectionTimeoutError);
  await settle();
});
works('a signal that aborts a request', async () => {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), 100);
  await assert.rejects(chat(slow, { signal: controller.signal }), OpenAI.APIUserAbortError);
  await settle();
});
refused('wrong key', '401 invalid_api_key', () => client.withOptions({ apiKey: 'sk-wrong' }).models.list());
refused('wrong model', '404 model_not_found', () => chat({ model: 'gpt-4o' }));
for (const [name, body] of [
  ['embeddings.create', () => client.embeddings.create({ model, input: 'x' })],
  ['images.generate', () => client.images.generate({ model, prompt: 'x' })],
  ['audio.speech.create', () => client.audio.speech.create({ model, input: 'x', voice: 'alloy' })],
  ['audio.transcriptions.create', async () => client.audio.transcriptions.create({ model, file: await file() })],
  ['files.create', async () => client.files.create({ file: await file(), purpose: 'batch' })],
  ['files.list', () => client.files.list()],
  ['batches.create', () => client.batches.create({ completion_window: '24h', endpoint: '/v1/responses', input_file_id: 'f' })],
  ['moderations.create', () => client.moderations.create({ input: 'x' })],
  ['fineTuning.jobs.list', () => client.fineTuning.jobs.list()],
  ['vectorStores.list', () => client.vectorStores.list()],
  ['conversations.create', () => client.conversations.create()],
]) refused(name, '404 unsupported_endpoint', body);

for (const [call, expected, body] of calls) {
  if (!`openai, Node ${call}`.includes(target.word)) continue;
  let row;
  try {
    row = { outcome: 'works', note: String((await body()) ?? '') };
  } catch (error) {
    // An error reply is an outcome; whatever else is thrown is the finding.
    row =
      error instanceof OpenAI.APIError && error.status
        ? { outcome: `refused ${error.status} ${error.code}`, note: error.error?.message ?? error.message }
        : { outcome: `fault ${error?.name}`, note: String(error?.stack ?? error).slice(0, 2000) };
  }
  console.log(JSON.stringify({ call, expected, ...row }));
}
