// "I have seen it": the acknowledgement of an incident, with a name and a note.

import { field, toast } from "../../lib/components.js";
import { h } from "../../lib/dom.js";
import { read, write } from "../../lib/time.js";
import { formDialog, textOf } from "../../widgets/forms.js";
import { incidentName } from "./words.js";

const NAME = "voltwire.name";  // Who acknowledged last in this browser.

// The incident afterwards, null if the dialog was left.
export async function acknowledge(app, incident) {
  const by = field("Your name", h("input", { type: "text", maxLength: 200, value: read(NAME) ?? "", autocomplete: "name" }), { name: "by" });
  const note = field("Note", h("textarea", { rows: 3, maxLength: 2000, placeholder: "I am on my way." }),
    { name: "note", hint: "Both are optional. Everybody who looks at the incident reads them." });
  const answer = await formDialog(`Acknowledge: ${incidentName(incident)}, ${incident.device_id}`, {
    fields: [by, note],
    action: "Acknowledge",
    send: () => app.api.send("POST", `/v1/incidents/${incident.id}/ack`, bodyOf(by, note)),
  });
  if (!answer) return null;
  if (textOf(by)) write(NAME, textOf(by));
  toast("Acknowledged. Notifications go on until it is resolved.", { kind: "good" });
  return answer;
}

function bodyOf(by, note) {
  const given = { by: textOf(by), note: textOf(note) };
  return Object.fromEntries(Object.entries(given).filter(([, text]) => text !== null));
}
