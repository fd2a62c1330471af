// The stream of a tab: it comes back by itself, resumes, and notices a connection that is dead.

import assert from "node:assert/strict";
import test, { beforeEach, mock } from "node:test";

import { Live } from "../../../api/page/static/lib/live.js";

const SECOND = 1_000;
let opened;
let live;
let statuses;

Object.assign(globalThis, { addEventListener() {}, document: { hidden: false, addEventListener() {} }, reportError() {} });

// A connection: what was asked for, and how to answer, send and cut it.
globalThis.fetch = (url, { headers, signal }) => new Promise((resolve, reject) => {
  const connection = { url, headers, isAborted: false, refuse: (status) => resolve({ ok: false, status }) };
  signal.addEventListener("abort", () => { connection.isAborted = true; reject(new Error("aborted")); });
  connection.accept = () => {
    const body = new ReadableStream({ start: (controller) => { connection.controller = controller; } });
    resolve({ ok: true, status: 200, body });
    return settled();
  };
  connection.send = (text) => { connection.controller.enqueue(new TextEncoder().encode(text)); return settled(); };
  connection.cut = () => { connection.controller.error(new Error("cut")); return settled(); };
  opened.push(connection);
});

async function settled() {
  for (let i = 0; i < 20; i += 1) await Promise.resolve();
  await new Promise(setImmediate);
}

async function pass(ms) {
  mock.timers.tick(ms);
  await settled();
}

beforeEach(() => {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: 1_000_000 });
  opened = [];
  statuses = [];
  live = new Live({ url: (path, params) => `${path} ${params.topics} ${params.latest_device_id}`, onLoginNeeded: () => statuses.push("login") });
  live.on("status", ({ state, missed }) => statuses.push(missed ? `${state}, missed` : state));
});

async function begun(...devices) {
  live.watch(devices);
  live.start();
  await pass(SECOND);
  await opened[0].accept();
}

test("one stream is opened, with the devices that the view watches", async () => {
  await begun("b", "a");
  assert.deepEqual(opened.map((each) => each.url), ["/v1/live latest,presence,alerts a,b"]);
  live.watch(["a", "b"]);
  live.watch(["a"]);
  await pass(SECOND);
  assert.equal(opened.length, 1);
  live.watch(["a", "c"]);
  await pass(SECOND);
  assert.equal(opened.length, 2);
  assert.ok(opened[0].isAborted);
});

test("a stream that is cut comes back and resumes after the last alert", async () => {
  await begun();
  const heard = [];
  live.on("alert", (alert) => heard.push(alert.n));
  live.on("alert", () => { throw new Error("a view fails"); });
  await opened[0].send('id: 7\nevent: alert\ndata: {"n":1}\n\n');
  await opened[0].cut();
  await pass(SECOND);
  await opened[1].accept();
  assert.deepEqual(opened[1].headers, { "Last-Event-ID": "7" });
  await opened[1].send('data: {"n":2}\n\n');
  assert.deepEqual(heard, [1, 2]);
  assert.deepEqual(statuses, ["live", "connecting", "live"]);
});

test("attempts become rarer, and the first success resets them", async () => {
  await begun();
  await opened[0].cut();
  for (let i = 1; i <= 30; i += 1) {
    await pass(5 * SECOND);
    const newest = opened[opened.length - 1];
    if (newest !== opened[0]) newest.refuse(503);
    await settled();
  }
  assert.ok(opened.length > 5 && opened.length < 25, `${opened.length}`);
  assert.ok(live.retryMs <= 15 * SECOND);
  await pass(20 * SECOND);
  await opened[opened.length - 1].accept();
  assert.equal(live.retryMs, 500);
});

test("a connection that says nothing is dead, and after a long sleep a view reads everything again", async () => {
  await begun();
  await opened[0].send("id: 7\ndata: {}\n\n");
  await pass(30 * SECOND);
  assert.equal(opened.length, 1);
  await pass(15 * SECOND);
  assert.equal(opened.length, 2);
  assert.deepEqual(opened[1].headers, { "Last-Event-ID": "7" });
  await pass(600 * SECOND);
  const last = opened[opened.length - 1];
  await last.accept();
  assert.deepEqual(last.headers, {});
  assert.deepEqual(statuses, ["live", "connecting", "live, missed"]);
});

test("a session that has ended leads to the login, and nothing is tried again", async () => {
  await begun();
  await opened[0].cut();
  await pass(SECOND);
  opened[1].refuse(401);
  await settled();
  await pass(600 * SECOND);
  assert.equal(opened.length, 2);
  assert.deepEqual(statuses, ["live", "connecting", "login", "stopped"]);
});
