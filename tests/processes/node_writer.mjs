// A writer as NomadArch is one: it reads sessions.json once, keeps its view in memory, changes that, and writes all of
// it back after each change, in place, pretty-printed. What others wrote meanwhile it never sees.
//
// usage: node node_writer.mjs <sessions.json>; commands as JSON lines on stdin, one answer line each.
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";

const path = process.argv[2];
let store = { sessions: {}, messages: {} };
let counter = 0;

const load = async () => {
  if (existsSync(path)) store = JSON.parse(await readFile(path, "utf-8"));
};
const write = () => writeFile(path, JSON.stringify(store, null, 2), "utf-8");
const id = (kind) => `${kind}_node_${process.pid}_${String(++counter).padStart(6, "0")}`;

function createSession(fields = {}) {
  const now = Date.now();
  const session = { id: id("ses"), workspaceId: "ws", title: "By node", parentId: null, createdAt: now, updatedAt: now };
  store.sessions[session.id] = { ...session, messageIds: [], ...fields };
  return session.id;
}

function addMessage(sessionId, fields = {}) {
  const now = Date.now();
  const message = { id: id("msg"), sessionId, role: "assistant", content: "by node", createdAt: now, updatedAt: now };
  store.messages[message.id] = { ...message, status: "completed", ...fields };
  store.sessions[sessionId].messageIds.push(message.id);
  store.sessions[sessionId].updatedAt = now;
  return message.id;
}

function update(kind, key, fields) {
  store[kind][key] = { ...store[kind][key], ...fields, updatedAt: Date.now() };
}

function deleteMessage(key) {
  const session = store.sessions[store.messages[key].sessionId];
  session.messageIds = session.messageIds.filter((each) => each !== key);
  delete store.messages[key];
}

function deleteSession(key) {
  for (const each of store.sessions[key].messageIds) delete store.messages[each];
  delete store.sessions[key];
}

// `count` writes, each after one change: a message (a stream: its text grows with the next writes), now and then a session.
async function run({ count, sessions, wait = 0, gone = [] }) {
  const made = { sessions: [], messages: {}, writes: 0 };
  const known = [...sessions];
  let streaming = null;
  for (let i = 0; i < count; i++) {
    if (i % 20 === 10) {
      known.push(createSession({ title: `By node ${i}`, custom: { kept: [i] } }));
      made.sessions.push(known.at(-1));
    }
    if (streaming) {
      const done = i % 5 === 0;
      const text = store.messages[streaming].content + ` word${i}`;
      update("messages", streaming, { content: text, status: done ? "completed" : "streaming" });
      made.messages[streaming] = text;
      if (done) streaming = null;
    } else {
      const sessionId = known[i % known.length];
      streaming = addMessage(sessionId, { content: `node ${i}`, status: "streaming", custom: { i } });
      made.messages[streaming] = `node ${i}`;
    }
    for (const each of gone.filter((item) => item.at === i)) {
      if (each.session) deleteSession(each.session);
      else deleteMessage(each.message);
    }
    await write();
    made.writes++;
    if (wait) await pause(wait);
  }
  if (streaming) {
    update("messages", streaming, { status: "completed" });
    await write();
  }
  return made;
}

const commands = {
  load, write, run,
  create: ({ fields }) => createSession(fields),
  add: ({ session, fields }) => addMessage(session, fields),
  update: ({ kind, key, fields }) => update(kind, key, fields),
  deleteMessage: ({ key }) => deleteMessage(key),
  deleteSession: ({ key }) => deleteSession(key),
  order: ({ session, ids }) => { store.sessions[session].messageIds = ids; },
  top: ({ key, value }) => { store[key] = value; },
  half: async () => { const text = JSON.stringify(store, null, 2); await writeFile(path, text.slice(0, text.length / 2)); },
  view: () => store,
};

for await (const line of createInterface({ input: process.stdin })) {
  const { op, ...rest } = JSON.parse(line);
  const answer = await commands[op](rest);
  process.stdout.write(JSON.stringify({ answer: answer ?? null }) + "\n");
}
