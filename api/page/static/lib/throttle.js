// Work that events ask for: at once, then at most once in a time, and never twice beside itself.

export class Throttle {
  // `work` may be asynchronous. It is called again after it ended if somebody asked meanwhile.
  constructor(pauseMs, work) {
    Object.assign(this, { pauseMs, work });
    this.wanted = false;
    this.timer = null;
    this.stopped = false;
  }

  ask() {
    this.wanted = true;
    if (this.timer === null) this.run();
  }

  async run() {
    if (this.stopped) return;
    this.wanted = false;
    this.timer = 0;  // Busy: a call meanwhile only sets `wanted`.
    try {
      await this.work();
    } finally {
      this.timer = setTimeout(() => this.next(), this.pauseMs);
    }
  }

  next() {
    this.timer = null;
    if (this.wanted) this.run();
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
  }
}

// Calls `work` when nothing asked for it during `quietMs`: after the last of several keystrokes.
export function debounce(quietMs, work) {
  let timer;
  const asked = (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...values), quietMs);
  };
  asked.cancel = () => clearTimeout(timer);
  return asked;
}
