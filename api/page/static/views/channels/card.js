// One channel: its address without secrets, how delivery goes, and its buttons.

import { pill } from "../../lib/components.js";
import { fill, h } from "../../lib/dom.js";
import { plural } from "../../lib/format.js";
import { moment } from "../../widgets/moments.js";
import { button, factList, tag } from "../../widgets/pieces.js";
import { titleOf } from "../rules/model.js";

const DOTS = { ok: "ok", retrying: "warning", failing: "critical" };

// { element, update(channel, rules) }; `actions`: change, remove, test, load.
export function channelCard(app, actions) {
  const head = h("div", { class: "head" });
  const facts = h("div", {});
  const result = h("p", { class: "result", role: "status" });
  const element = h("article", { class: "card pad channel" }, head, facts, result);
  let now;  // The channel and its rules as they were read last.
  const buttons = app.may("admin") ? buttonsOf(() => now, actions, result) : null;
  const update = (channel, rules) => {
    now = { channel, rules };
    element.setAttribute("aria-label", `Channel ${channel.name}`);
    fill(head, h("h2", { class: "first" }, channel.name), pill(DOTS[channel.state], channel.state),
      channel.signed && tag("signed"), channel.silent && tag("silent devices"));
    fill(facts, factList(factsOf(channel, rules, app.time)));
  };
  if (buttons) element.append(buttons);
  return { element, update };
}

function buttonsOf(now, actions, result) {
  const test = button("Send a test", () => runTest(test, now().channel, actions, result));
  return h("div", { class: "actions" },
    test,
    button("Edit", () => actions.change(now().channel)),
    button("Delete", () => actions.remove(now().channel, now().rules), { kind: "danger" }));
}

async function runTest(pressed, channel, actions, result) {
  pressed.disabled = true;
  result.className = "result";
  result.textContent = "A test is being sent …";
  const { status, failure } = await actions.test(channel).catch((problem) => ({ status: "failed", failure: problem.detail }));
  const delivered = status === "delivered";
  result.className = `result ${delivered ? "good" : "bad"}`;
  result.textContent = delivered ? "The test was delivered." : `The test failed: ${failure}`;
  pressed.disabled = false;
  await actions.load();
}

function factsOf(channel, rules, time) {
  const { delivered_at: delivered, failed_at: failed, failure, attempts, next_attempt_at: next, given_up: givenUp } = channel;
  return [
    ["Address", h("span", { class: "mono" }, channel.url)],
    ["Used by", rules.length ? rules.map((rule) => h("a", { class: "tag", href: `#/rules/${rule.id}` }, titleOf(rule))) : "no rule"],
    ["Delivered", delivered ? moment(time, delivered) : "nothing yet"],
    failed && ["Last failure", [moment(time, failed), `: ${failure}`]],
    next && ["Next attempt", `number ${attempts + 1} at ${time.short(next)}`],
    givenUp > 0 && ["Given up", `${plural(givenUp, "notification")} never arrived`],
  ];
}
