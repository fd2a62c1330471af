// Channels: where alerts leave for people and programs, and whether they arrive.

import { confirmed, emptyState, toast } from "../../lib/components.js";
import { fill, h } from "../../lib/dom.js";
import { postLine } from "../../lib/publish.js";
import { keepMoments } from "../../widgets/moments.js";
import { button, viewHead } from "../../widgets/pieces.js";
import { channelCard } from "./card.js";
import { addChannel, changeChannel } from "./form.js";

export const title = "Channels";

const CHANNELS_MAX = 100;
const RULES_MAX = 1_000;
const REFRESH_MS = 10_000;  // Deliveries and failures are not in the stream.

export async function show(root, route, app) {
  const list = h("div", { class: "channels-list" });
  const cards = new Map();  // A card stays while its test runs and its result is read.
  const load = async () => {
    const [channels, rules] = await Promise.all([
      app.api.get("/v1/channels", { limit: CHANNELS_MAX }), app.api.get("/v1/alerts", { limit: RULES_MAX }),
    ]);
    draw(list, cards, channels, rules, app, actionsOf(app, load));
  };
  const add = async () => { if (await addChannel(app)) await load(); };
  fill(root, viewHead("Channels", app.may("admin") && button("Add a channel", add, { kind: "main" })), list);
  await load();
  const timer = setInterval(() => !document.hidden && load().catch(() => null), REFRESH_MS);
  const stop = keepMoments(root);
  return () => {
    clearInterval(timer);
    stop();
  };
}

function draw(list, cards, channels, rules, app, actions) {
  for (const name of cards.keys()) if (!channels.some((each) => each.name === name)) cards.delete(name);
  for (const channel of channels) {
    if (!cards.has(channel.name)) cards.set(channel.name, channelCard(app, actions));
    cards.get(channel.name).update(channel, rules.filter((rule) => rule.channels.includes(channel.name)));
  }
  const elements = channels.map(({ name }) => cards.get(name).element);
  if (!elements.length) fill(list, nothing(app));
  else if (elements.length !== list.children.length || elements.some((each, place) => each !== list.children[place])) fill(list, elements);
}

function actionsOf(app, load) {
  return {
    change: async (channel) => { if (await changeChannel(app, channel)) await load(); },
    remove: async (channel, rules) => {
      const used = rules.length ? ` ${rules.length === 1 ? "A rule names" : `${rules.length} rules name`} it and will send nothing there.` : "";
      const text = `What it has not delivered yet is dropped.${used} This cannot be undone.`;
      if (!(await confirmed(`Delete the channel ${channel.name}?`, text, "Delete"))) return;
      await app.api.send("DELETE", pathOf(channel)).catch((problem) => toast(problem.detail, { kind: "bad" }));
      await load();
    },
    test: (channel) => app.api.send("POST", `${pathOf(channel)}/test`),
    load,
  };
}

const pathOf = ({ name }) => `/v1/channels/${encodeURIComponent(name)}`;

function nothing(app) {
  const line = postLine(app.info, "/v1/channels", { name: "phone", url: "ntfys://ntfy.sh/your-topic" });
  return emptyState("There is no channel yet",
    "A channel brings alerts to people and programs: by mail, a chat, a push message or a webhook. A rule names the channels that get its alerts.",
    [{ label: "With curl:", line }]);
}
