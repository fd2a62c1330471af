// The one stream of this tab: newest events, presence and alerts, with reconnection and resumption.

import { EventParser } from "./sse.js";

const SILENCE_MS_MAX = 40_000;  // The server sends something every 15 s; after this the connection is dead.
const RETRY_MS_MIN = 500;
const RETRY_MS_MAX = 15_000;
const RESUME_MS_MAX = 120_000;  // After a longer break the views load again, rather than hear all that was missed.
const WATCH_DELAY_MS = 250;  // A new choice of devices opens the stream again: wait until scrolling has stopped.
const DEVICES_MAX = 200;  // Per stream, as the API says.

const STREAM = "/v1/live";

export class Live {
  constructor(api) {
    this.api = api;
    this.handlers = new Map();
    this.devices = [];
    this.lastEventId = null;
    this.status = { state: "stopped", missed: false };
    this.heardAt = 0;  // When the stream last said anything.
    this.openedAt = 0;  // When it was last opened, successfully or not.
    this.retryMs = RETRY_MS_MIN;
    this.connection = null;
  }

  // `type`: latest (an array of events), presence, alert, acknowledged, resolved, or status
  // ({ state: "live" | "connecting" | "stopped", missed }: `missed` says that a view must load again).
  // Returns the function that ends the subscription.
  on(type, handler) {
    if (!this.handlers.has(type)) this.handlers.set(type, new Set());
    this.handlers.get(type).add(handler);
    return () => this.handlers.get(type).delete(handler);
  }

  // The devices whose newest events are wanted, instead of those before.
  watch(deviceIds) {
    const wanted = [...new Set(deviceIds)].slice(0, DEVICES_MAX).sort();
    if (wanted.every((id) => this.devices.includes(id)) && wanted.length * 2 >= this.devices.length) return;
    this.devices = wanted;
    if (this.running) this.connectSoon();
  }

  start() {
    if (this.running) return;
    this.running = new AbortController();
    const { signal } = this.running;
    this.watchdog = setInterval(() => this.check(), 5_000);
    // A laptop that wakes up, and a network that comes back, do not wait for the next attempt.
    addEventListener("online", () => this.check(), { signal });
    document.addEventListener("visibilitychange", () => !document.hidden && this.check(), { signal });
    this.connectSoon();  // A view says first what it watches.
  }

  connectSoon() {
    clearTimeout(this.watchTimer);
    this.watchTimer = setTimeout(() => this.connect(), WATCH_DELAY_MS);
  }

  stop() {
    this.running?.abort();
    this.running = null;
    this.connection?.abort();
    clearInterval(this.watchdog);
    clearTimeout(this.retryTimer);
    clearTimeout(this.watchTimer);
    this.tell("stopped");
  }

  // Sleep stops all timers; a connection that was cut meanwhile fires no error.
  check() {
    if (Date.now() - Math.max(this.heardAt, this.openedAt) <= SILENCE_MS_MAX) return;
    this.tell("connecting");
    this.connect();
  }

  connect() {
    clearTimeout(this.retryTimer);
    this.connection?.abort();
    const connection = new AbortController();
    this.connection = connection;
    this.openedAt = Date.now();
    const missed = this.heardAt > 0 && this.openedAt - this.heardAt > RESUME_MS_MAX;
    if (missed) this.lastEventId = null;
    this.read(connection.signal, missed).catch((error) => {
      if (!connection.signal.aborted) this.lost(error);
    });
  }

  lost(error) {
    if (error.status === 401 || error.status === 403) return this.stop();
    if (error.status === 422) this.lastEventId = null;  // Of another installation at this address.
    this.tell("connecting");
    this.retryTimer = setTimeout(() => this.connect(), this.retryMs * (0.75 + Math.random() / 2));
    this.retryMs = Math.min(this.retryMs * 2, RETRY_MS_MAX);
  }

  async read(signal, missed) {
    const answer = await fetch(this.address(), {
      signal, headers: this.lastEventId ? { "Last-Event-ID": this.lastEventId } : {}, credentials: "same-origin",
    });
    if (answer.status === 401) this.api.onLoginNeeded();
    if (!answer.ok) throw Object.assign(new Error(`The stream was answered ${answer.status}.`), { status: answer.status });
    this.retryMs = RETRY_MS_MIN;
    this.heardAt = Date.now();
    this.tell("live", missed);
    const parser = new EventParser((event) => this.received(event));
    const decoder = new TextDecoder();
    const reader = answer.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) throw new Error("The stream has ended.");
      if (signal.aborted) return;
      this.heardAt = Date.now();
      parser.push(decoder.decode(value, { stream: true }));
    }
  }

  address() {
    const topics = this.devices.length ? "latest,presence,alerts" : "presence,alerts";
    return this.api.url(STREAM, { topics, latest_device_id: this.devices });
  }

  received({ type, data, id }) {
    if (id) this.lastEventId = id;
    const name = type === "message" ? "alert" : type;
    this.call(name, JSON.parse(data));
  }

  tell(state, missed = false) {
    if (this.status.state === state && !missed) return;
    this.status = { state, missed };
    this.call("status", this.status);
  }

  // A handler that fails neither stops the others nor the stream.
  call(type, value) {
    for (const handler of this.handlers.get(type) ?? []) {
      try {
        handler(value);
      } catch (error) {
        reportError(error);
      }
    }
  }
}
