// Dead letters through the pipeline again, and what became of them.

import { dialog, toast } from "../../lib/components.js";
import { fill, h } from "../../lib/dom.js";
import { plural } from "../../lib/format.js";
import { button } from "../../widgets/pieces.js";

const PAGE_LETTERS = 1_000;
const OUTCOMES = ["letters", "stored", "duplicate", "rejected"];

// True if it was replayed, whatever came of it.
export async function replayOne(app, { id }) {
  try {
    const outcome = await app.api.send("POST", "/v1/rejected/replay", { ids: [id] });
    toast(`Replayed: ${outcomeText(outcome)}.`, { kind: outcome.rejected ? "bad" : "good" });
    return true;
  } catch (problem) {
    toast(problem.detail ?? String(problem), { kind: "bad" });
    return false;
  }
}

// Ask, then replay page by page what the filters select and nobody replayed yet; true if anything was sent.
export async function replayAll(app, { reason, device_id: device, door }) {
  const given = Object.entries({ reason, device_id: device, door }).filter(([, value]) => value);
  const selection = Object.fromEntries(given);
  const sums = Object.fromEntries(OUTCOMES.map((name) => [name, 0]));
  const which = given.length ? `Those with ${given.map(([name, value]) => `${name} ${value}`).join(", ")}` : "All";
  const text = `${which} that were not replayed yet are sent through the pipeline again, the oldest first.`;
  await dialog("Replay dead letters", (close) => replaying(app, selection, sums, text, close));
  return sums.letters > 0;
}

function replaying(app, selection, sums, text, close) {
  const stop = new AbortController();
  const result = h("p", { role: "status" });
  const buttons = h("div", { class: "actions" });
  const leave = (name) => button(name, () => {
    stop.abort();
    close();
  });
  const begin = async () => {
    fill(buttons, leave("Stop"));
    const say = (word) => { result.textContent = `${word}: ${plural(sums.letters, "dead letter")}, ${outcomeText(sums)}.`; };
    try {
      await replayPages(app, selection, sums, stop.signal, () => say("So far"));
      say("Done");
    } catch (problem) {
      result.textContent = `${problem.detail ?? problem}`;
    }
    fill(buttons, leave("Close"));
    buttons.firstChild.focus();
  };
  fill(buttons, leave("Cancel"), button("Replay", begin, { kind: "main" }));
  return [h("p", {}, text), result, buttons];
}

async function replayPages(app, selection, sums, signal, onPage) {
  for (let after = 0; after !== null && !signal.aborted;) {
    const outcome = await app.api.send("POST", "/v1/rejected/replay", { ...selection, after, limit: PAGE_LETTERS });
    for (const name of OUTCOMES) sums[name] += outcome[name];
    after = outcome.next;
    onPage();
  }
}

function outcomeText({ stored, duplicate, rejected }) {
  return `${stored} stored, ${duplicate} duplicate, ${rejected} rejected again`;
}
