// Each way to ask an SDK and what it then holds, in the form that tests compare (`seen`): the words,
// the refusal, the thoughts and their secrets, the calls, why it ended, tokens given, cached, output.

import { createRequire } from "node:module";

const require = createRequire(process.argv[2] + "/");
const OpenAI = require("openai");
const Anthropic = require("@anthropic-ai/sdk");

const { GoogleGenAI } = require("@google/genai");

function google({ url, key = "k" }) {
  return new GoogleGenAI({ apiKey: key, httpOptions: { baseUrl: url, timeout: 20_000 } });
}

function openai({ url, key = "k", retries = 0 }) {
  return new OpenAI({ baseURL: url, apiKey: key, maxRetries: retries, timeout: 20_000 });
}

function anthropic({ url, key = "k", retries = 0 }) {
  return new Anthropic({ baseURL: url, apiKey: key, maxRetries: retries, timeout: 20_000 });
}

function seen(fields) {
  return {
    text: "",
    refusal: "",
    thinking: "",
    secrets: [],
    calls: [],
    finish: "",
    tokens: [0, 0, 0],
    ...fields,
  };
}

function equal(one, other, what) {
  if (JSON.stringify(one) !== JSON.stringify(other)) {
    throw new Error(`${what}: ${JSON.stringify(one)} is not ${JSON.stringify(other)}`);
  }
}

// Chat completions

function chatUsage(usage) {
  const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
  return [usage.prompt_tokens, cached, usage.completion_tokens];
}

function chatSeen(completion) {
  const [{ message, finish_reason: finish }] = completion.choices;
  return seen({
    text: message.content ?? "",
    refusal: message.refusal ?? "",
    thinking: message.reasoning_content ?? "",
    calls: (message.tool_calls ?? []).map(({ id, function: f }) => [
      id,
      f.name,
      JSON.parse(f.arguments),
    ]),
    finish,
    tokens: chatUsage(completion.usage),
  });
}

async function chatPlain(given) {
  return chatSeen(await openai(given).chat.completions.create(given.body));
}

const withUsage = { stream_options: { include_usage: true } };

async function chatStream(given) {
  const said = { content: "", refusal: "", reasoning_content: "" };
  const calls = [];
  let finish = null;
  let usage = null;
  const asked = { ...given.body, ...withUsage, stream: true };
  for await (const chunk of await openai(given).chat.completions.create(asked)) {
    usage = chunk.usage ?? usage;
    for (const choice of chunk.choices) {
      finish = choice.finish_reason ?? finish;
      for (const name of Object.keys(said)) said[name] += choice.delta[name] ?? "";
      for (const call of choice.delta.tool_calls ?? []) {
        if (call.id) calls[call.index] = [call.id, call.function.name, ""];
        calls[call.index][2] += call.function.arguments ?? "";
      }
    }
  }
  return seen({
    text: said.content,
    refusal: said.refusal,
    thinking: said.reasoning_content,
    calls: calls.map(([id, name, text]) => [id, name, JSON.parse(text)]),
    finish,
    tokens: chatUsage(usage),
  });
}

async function chatHelper(given) {
  const stream = openai(given).chat.completions.stream({ ...given.body, ...withUsage });
  let text = "";
  let thinking = "";
  stream.on("content", (delta) => (text += delta));
  // A member the SDK does not know: it keeps the last piece only, whose pieces it hands out.
  stream.on("chunk", (chunk) => (thinking += chunk.choices[0]?.delta.reasoning_content ?? ""));
  const completion = await stream.finalChatCompletion();
  equal(text, completion.choices[0].message.content ?? "", "the helper's content events");
  return { ...chatSeen(completion), thinking };
}

// Messages

function messageTokens(usage) {
  const read = usage.cache_read_input_tokens ?? 0;
  const written = usage.cache_creation_input_tokens ?? 0;
  return [usage.input_tokens + read + written, read, usage.output_tokens];
}

function messageSeen(message) {
  const of = (kind) => message.content.filter((block) => block.type === kind);
  return seen({
    text: of("text").map((block) => block.text).join(""),
    thinking: of("thinking").map((block) => block.thinking).join(""),
    secrets: [
      ...of("thinking").filter((block) => block.signature).map((block) => block.signature),
      ...of("redacted_thinking").map((block) => block.data),
    ],
    calls: of("tool_use").map((block) => [block.id, block.name, block.input]),
    finish: message.stop_sequence ?? message.stop_reason,
    tokens: messageTokens(message.usage),
  });
}

async function messagesPlain(given) {
  return messageSeen(await anthropic(given).messages.create(given.body));
}

async function messagesStream(given) {
  const blocks = [];
  let open = -1;
  let ended = null;
  let usage = {};
  const asked = { ...given.body, stream: true };
  for await (const event of await anthropic(given).messages.create(asked)) {
    if (event.type === "message_start") {
      usage = event.message.usage;
    } else if (event.type === "content_block_start") {
      equal([event.index, open], [blocks.length, -1], "where a block begins");
      open = event.index;
      blocks.push({ ...event.content_block, json: "" });
    } else if (event.type === "content_block_delta") {
      equal(event.index, open, "the block that goes on");
      const { type, partial_json: json, ...said } = event.delta;
      for (const [name, text] of Object.entries(said)) blocks[open][name] += text;
      blocks[open].json += json ?? "";
    } else if (event.type === "content_block_stop") {
      equal(event.index, open, "the block that ends");
      open = -1;
    } else if (event.type === "message_delta") {
      ended = event.delta;
      usage = { ...usage, ...event.usage };
    }
  }
  const content = blocks.map(({ json, ...block }) =>
    block.type === "tool_use" ? { ...block, input: JSON.parse(json || "{}") } : block,
  );
  return messageSeen({ ...ended, content, usage });
}

async function messagesHelper(given) {
  const stream = anthropic(given).messages.stream(given.body);
  let text = "";
  stream.on("text", (delta) => (text += delta));
  const found = messageSeen(await stream.finalMessage());
  equal(text, found.text, "the helper's text events");
  return found;
}

// Responses

function responseSeen(response) {
  const content = response.output.flatMap((item) => (item.type === "message" ? item.content : []));
  const thoughts = response.output.filter((item) => item.type === "reasoning");
  const usage = response.usage;
  return seen({
    text: response.output_text,
    refusal: content.filter((part) => part.type === "refusal").map((part) => part.refusal).join(""),
    thinking: thoughts.flatMap((item) => item.summary.map((part) => part.text)).join(""),
    secrets: thoughts.map((item) => item.encrypted_content).filter(Boolean),
    calls: response.output
      .filter((item) => item.type === "function_call")
      .map((item) => [item.call_id, item.name, JSON.parse(item.arguments)]),
    finish: response.incomplete_details?.reason ?? response.status,
    tokens: [usage.input_tokens, usage.input_tokens_details.cached_tokens, usage.output_tokens],
  });
}

async function responsesPlain(given) {
  return responseSeen(await openai(given).responses.create(given.body));
}

// What the SDK adds to a whole answer it leaves out of the last event of a stream.
function withText(response) {
  const content = response.output.flatMap((item) => (item.type === "message" ? item.content : []));
  const texts = content.filter((part) => part.type === "output_text").map((part) => part.text);
  return { ...response, output_text: texts.join("") };
}

async function responsesStream(given) {
  const added = { text: "", thinking: "", refusal: "" };
  const names = {
    "response.output_text.delta": "text",
    "response.reasoning_summary_text.delta": "thinking",
    "response.refusal.delta": "refusal",
  };
  const calls = {};
  const events = [];
  const asked = { ...given.body, stream: true };
  for await (const event of await openai(given).responses.create(asked)) {
    if (!given.unnumbered) equal(event.sequence_number, events.length, "the number of an event");
    events.push(event);
    if (event.type in names) added[names[event.type]] += event.delta;
    if (event.type === "response.function_call_arguments.delta") {
      calls[event.output_index] = (calls[event.output_index] ?? "") + event.delta;
    }
  }
  const last = events.at(-1);
  if (last.type === "response.failed") return { failed: last.response.error };
  const found = responseSeen(withText(last.response));
  equal(added, { text: found.text, thinking: found.thinking, refusal: found.refusal }, "deltas");
  equal(
    Object.values(calls).map((text) => JSON.parse(text)),
    found.calls.map((call) => call[2]),
    "arguments",
  );
  return found;
}

async function responsesHelper(given) {
  const stream = openai(given).responses.stream(given.body);
  let last = null;
  for await (const event of stream) last = event;
  if (last.type === "response.failed") return { failed: last.response.error };
  if (last.type === "response.incomplete") return responseSeen(withText(last.response));
  return responseSeen(await stream.finalResponse());
}

// Gemini

function geminiSeen(responses) {
  const parts = responses.flatMap((one) => one.candidates?.[0]?.content?.parts ?? []);
  const words = (thought) =>
    parts.filter((part) => Boolean(part.thought) === thought).map((part) => part.text ?? "");
  const signed = parts.filter((part) => part.thoughtSignature);
  const calls = parts.filter((part) => part.functionCall).map((part) => part.functionCall);
  const last = responses.at(-1);
  const used = last.usageMetadata;
  const output = (used.candidatesTokenCount ?? 0) + (used.thoughtsTokenCount ?? 0);
  return seen({
    text: words(false).join(""),
    thinking: words(true).join(""),
    secrets: signed.map((part) => Buffer.from(part.thoughtSignature, "base64").toString()),
    calls: calls.map((call) => [call.id ?? "", call.name, call.args]),
    finish: last.candidates[0].finishReason,
    tokens: [used.promptTokenCount ?? 0, used.cachedContentTokenCount ?? 0, output],
  });
}

async function gathered(stream) {
  const found = [];
  for await (const one of stream) found.push(one);
  return geminiSeen(found);
}

async function geminiPlain(given) {
  return geminiSeen([await google(given).models.generateContent(given.body)]);
}

async function geminiStream(given) {
  return gathered(await google(given).models.generateContentStream(given.body));
}

// The helper that keeps a history

async function geminiHelper(given) {
  const { contents: message, ...settings } = given.body;
  return gathered(await google(given).chats.create(settings).sendMessageStream({ message }));
}

async function geminiLoop(given) {
  const { contents: message, ...settings } = given.body;
  const chat = google(given).chats.create(settings);
  let next = message;
  for (let round = 0; round < given.rounds; round += 1) {
    let calls = [];
    if (given.stream) {
      for await (const one of await chat.sendMessageStream({ message: next })) {
        calls = [...calls, ...(one.functionCalls ?? [])];
      }
    } else {
      calls = (await chat.sendMessage({ message: next })).functionCalls ?? [];
    }
    next = calls.map(({ id, name }) => ({
      functionResponse: { id, name, response: { output: `${name} says 7` } },
    }));
  }
  return { messages: chat.getHistory() };
}

// Loops of tools: the SDK's own runner where it has one

function toolsOf(given, wrap) {
  return given.tools.map(({ name, parameters }) => wrap(name, parameters, () => `${name} says 7`));
}

async function chatLoop(given) {
  const tools = toolsOf(given, (name, parameters, run) => ({
    type: "function",
    function: { name, parameters, parse: JSON.parse, function: run },
  }));
  const runner = openai(given).chat.completions.runTools(
    { ...given.body, tools, stream: given.stream },
    { maxChatCompletions: given.rounds },
  );
  await runner.done();
  return { messages: runner.messages };
}

async function messagesLoop(given) {
  const { betaTool } = require("@anthropic-ai/sdk/helpers/beta/json-schema");
  const tools = toolsOf(given, (name, inputSchema, run) => betaTool({ name, inputSchema, run }));
  const runner = anthropic(given).beta.messages.toolRunner({
    ...given.body,
    tools,
    stream: given.stream,
    max_iterations: given.rounds,
  });
  for await (const step of runner) if (given.stream) await step.finalMessage();
  return { messages: runner.params.messages };
}

async function responsesLoop(given) {
  const client = openai(given);
  let input = given.body.input;
  for (let round = 0; round < given.rounds; round += 1) {
    const asked = { ...given.body, input };
    const response = given.stream
      ? await client.responses.stream(asked).finalResponse()
      : await client.responses.create(asked);
    const calls = response.output.filter((item) => item.type === "function_call");
    input = [
      ...(typeof input === "string" ? [{ role: "user", content: input }] : input),
      ...response.output,
      ...calls.map(({ call_id, name }) => ({
        type: "function_call_output",
        call_id,
        output: `${name} says 7`,
      })),
    ];
  }
  return { messages: input };
}

// A call that its user aborts after a few pieces of text: what had been read by then

async function aborted(stream, pieces, text) {
  let said = "";
  let count = 0;
  try {
    for await (const event of stream) {
      const piece = text(event);
      said += piece ?? "";
      count += piece ? 1 : 0;
      if (count === pieces) stream.controller.abort();
    }
  } catch (error) {
    if (error.constructor.name !== "APIUserAbortError") throw error;
  }
  return { text: said, aborted: stream.controller.signal.aborted };
}

async function chatAbort(given) {
  const asked = { ...given.body, stream: true };
  const stream = await openai(given).chat.completions.create(asked);
  return aborted(stream, given.pieces, (chunk) => chunk.choices[0]?.delta.content);
}

async function messagesAbort(given) {
  const stream = await anthropic(given).messages.create({ ...given.body, stream: true });
  return aborted(stream, given.pieces, (event) => event.delta?.text);
}

async function responsesAbort(given) {
  const stream = await openai(given).responses.create({ ...given.body, stream: true });
  const delta = (event) => (event.type === "response.output_text.delta" ? event.delta : "");
  return aborted(stream, given.pieces, delta);
}

// The bytes of a stream as they came, to see what the SDKs read past

async function streamed({ url, key, path, body }) {
  const headers = { "content-type": "application/json", authorization: `Bearer ${key}` };
  const asked = JSON.stringify({ ...body, stream: true });
  const answer = await fetch(url + path, { method: "POST", headers, body: asked });
  return { text: await answer.text() };
}

// Calls that are no conversation

async function embeddings(given) {
  const made = await openai(given).embeddings.create(given.body);
  return { vectors: made.data.map((one) => Array.from(one.embedding)), usage: made.usage };
}

async function images(given) {
  const made = await openai(given).images.generate(given.body);
  return { images: made.data.map((one) => one.b64_json) };
}

async function speech(given) {
  const made = await openai(given).audio.speech.create(given.body);
  return { sound: Buffer.from(await made.arrayBuffer()).toString("base64") };
}

async function transcription(given) {
  const file = await OpenAI.toFile(Buffer.from(given.sound, "base64"), "a.wav");
  return openai(given).audio.transcriptions.create({ ...given.body, file });
}

async function moderation(given) {
  const made = await openai(given).moderations.create(given.body);
  return { flagged: made.results.map((one) => one.flagged) };
}

async function completion(given) {
  const made = await openai(given).completions.create(given.body);
  return { text: made.choices[0].text, usage: made.usage };
}

async function completionStream(given) {
  let text = "";
  let usage = null;
  const asked = { ...given.body, ...withUsage, stream: true };
  for await (const chunk of await openai(given).completions.create(asked)) {
    text += chunk.choices[0]?.text ?? "";
    usage = chunk.usage ?? usage;
  }
  return { text, usage };
}

async function countTokens(given) {
  return anthropic(given).messages.countTokens(given.body);
}

// The list of models, by each SDK, and one of them

async function models(client, model) {
  const listed = [];
  for await (const found of client.models.list()) listed.push(found.id);
  return { listed, one: (await client.models.retrieve(model)).id };
}

export const ways = {
  streamed,
  embeddings,
  images,
  speech,
  transcription,
  moderation,
  completion,
  completion_stream: completionStream,
  count_tokens: countTokens,
  chat_plain: chatPlain,
  chat_stream: chatStream,
  chat_helper: chatHelper,
  chat_loop: chatLoop,
  chat_abort: chatAbort,
  chat_models: (given) => models(openai(given), given.model),
  messages_plain: messagesPlain,
  messages_stream: messagesStream,
  messages_helper: messagesHelper,
  messages_loop: messagesLoop,
  messages_abort: messagesAbort,
  messages_models: (given) => models(anthropic(given), given.model),
  gemini_plain: geminiPlain,
  gemini_stream: geminiStream,
  gemini_helper: geminiHelper,
  gemini_loop: geminiLoop,
  responses_plain: responsesPlain,
  responses_stream: responsesStream,
  responses_helper: responsesHelper,
  responses_loop: responsesLoop,
  responses_abort: responsesAbort,
};
