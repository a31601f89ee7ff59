// The stock client, unchanged: base URL and key come from its own environment variables.
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0 });
const ask = (text, more) => ({ model: "fake", messages: [{ role: "user", content: text }], ...more });
const out = {};

out.models = (await client.models.list()).data.map((m) => m.id);
const whole = await client.chat.completions.create(ask("let there be light"));
out.whole = whole.choices[0].message.content;
out.usage = whole.usage.completion_tokens;

out.events = [];
const stream = await client.chat.completions.create(ask("and it was so", { stream: true, stream_options: { include_usage: true } }));
for await (const part of stream) {
  if (part.choices[0]?.delta?.content) out.events.push(part.choices[0].delta.content);
  if (part.usage) out.streamUsage = part.usage.completion_tokens;
}

const tools = [{ type: "function", function: { name: "look", parameters: { type: "object" } } }];
out.tool = (await client.chat.completions.create(ask("tool", { tools }))).choices[0].message.tool_calls[0].function;
out.embedding = (await client.embeddings.create({ model: "fake", input: "light", encoding_format: "float" })).data[0].embedding;

try {
  await client.chat.completions.create(ask("x", { n: 2 }));
} catch (e) {
  out.refused = [e.status, e.code];
}
try {
  for await (const part of await client.chat.completions.create(ask("break", { stream: true })));
} catch (e) {
  out.broken = true;
}
const endless = await client.chat.completions.create(ask("endless", { stream: true }));
for await (const part of endless) break; // the client hangs up
console.log(JSON.stringify(out));
