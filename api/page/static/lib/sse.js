// Server-sent events from a stream of bytes (HTML Living Standard, 9.2.6).

// A parser: `push(text)` calls `onEvent({ type, data, id })` for each whole event.
export class EventParser {
  constructor(onEvent) {
    this.onEvent = onEvent;
    this.rest = "";
    this.clear();
  }

  push(text) {
    const lines = (this.rest + text).split("\n");
    this.rest = lines.pop();
    for (const line of lines) this.line(line.endsWith("\r") ? line.slice(0, -1) : line);
  }

  line(line) {
    if (line === "") {
      if (this.data.length) this.onEvent({ type: this.type || "message", data: this.data.join("\n"), id: this.id });
      this.clear();
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return;  // A comment, the heartbeat.
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (field === "data") this.data.push(value);
    else if (field === "event") this.type = value;
    else if (field === "id") this.id = value;
  }

  clear() {
    this.data = [];
    this.type = "";
    this.id = null;
  }
}
