// A channel's name, address and secret. Address and secret go in and are never shown again.

import { field, toast } from "../../lib/components.js";
import { h } from "../../lib/dom.js";
import { checkbox, formDialog, textOf } from "../../widgets/forms.js";
import { button, textInput } from "../../widgets/pieces.js";
import { showSecret } from "../../widgets/secret.js";

const ADDRESS_HINT = "https://… for a signed webhook, or an address of Apprise: mail, ntfy, Slack, Telegram, … It is never shown again.";
const SECRET_HINT = "The receiver checks signatures with it. It is never shown again.";
const NEW_SECRET_HINT = `${SECRET_HINT} If you leave it empty, one is made and shown once.`;
const SECRET_BYTES = 32;
// What an address begins with, for the most common services.
const EXAMPLES = [
  "https://example.org/hook",
  "mailtos://user:password@mail.example.org?to=you@example.org",
  "ntfys://ntfy.sh/your-topic",
  "slack://TokenA/TokenB/TokenC/#channel",
  "tgram://BotToken/ChatId",
  "discord://WebhookId/WebhookToken",
];

// The new channel, null if the dialog was left.
export async function addChannel(app) {
  const name = field("Name", textInput({ placeholder: "ops", maxLength: 64 }), { name: "name" });
  const rest = restOf({ silent: false }, NEW_SECRET_HINT);
  const made = await formDialog("Add a channel", {
    fields: [name, ...rest.fields],
    action: "Add",
    send: () => app.api.send("POST", "/v1/channels", { name: textOf(name) ?? "", url: textOf(rest.url) ?? "", ...rest.body() }),
  });
  if (made?.secret) await showSecret(`The secret of ${made.name}`, made.secret);
  if (made) toast(`${made.name} is added. Send a test to see whether it arrives.`, { kind: "good" });
  return made;
}

// The changed channel, null if the dialog was left.
export async function changeChannel(app, channel) {
  const rest = restOf(channel, SECRET_HINT);
  rest.url.control.placeholder = `${channel.url} (stays if empty)`;
  if (channel.signed) rest.secret.control.placeholder = "stays if empty";
  const url = () => (textOf(rest.url) ? { url: textOf(rest.url) } : {});
  const changed = await formDialog(`Edit ${channel.name}`, {
    fields: rest.fields,
    action: "Save",
    send: () => app.api.send("PUT", `/v1/channels/${encodeURIComponent(channel.name)}`, { ...url(), ...rest.body() }),
  });
  if (changed) toast(`${changed.name} is changed.`, { kind: "good" });
  return changed;
}

function restOf({ silent }, secretHint) {
  const examples = h("datalist", { id: "channel-addresses" }, EXAMPLES.map((value) => h("option", { value })));
  const address = textInput({ maxLength: 2000, placeholder: EXAMPLES[0] });
  address.setAttribute("list", examples.id);
  const url = field("Address", address, { name: "url", hint: ADDRESS_HINT });
  url.element.append(examples);
  const secret = field("Secret of a webhook", textInput({ maxLength: 200, placeholder: "whsec_…" }), { name: "secret", hint: secretHint });
  const make = button("Make one", () => {
    secret.control.value = newSecret();
    secret.control.select();
  });
  const pair = h("div", { class: "with-button" });
  secret.control.replaceWith(pair);
  pair.append(secret.control, make);
  const box = checkbox("Also send devices that fall silent", { name: "silent", checked: silent });
  const silentField = { name: "silent", element: box, control: box.querySelector("input"), setError() {} };
  const body = () => ({ ...(textOf(secret) ? { secret: textOf(secret) } : {}), silent: silentField.control.checked });
  return { url, secret, fields: [url, secret, silentField], body };
}

// As Standard Webhooks has it: whsec_ and random bytes in Base64.
function newSecret() {
  return `whsec_${btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(SECRET_BYTES))))}`;
}
