// A back-test with its progress: the API answers in lines of JSON, and stops working when the page leaves.

import { Problem } from "../../lib/api.js";

const LINES = "application/x-ndjson";

// Resolves with the result. `onProgress({ events, expected })` is called while it works. Throws Problem.
export async function backtest(api, body, signal, onProgress) {
  const answer = await fetch(api.url("/v1/alerts/backtest"), {
    method: "POST", credentials: "same-origin", signal, body: JSON.stringify(body),
    headers: { "Content-Type": "application/json", Accept: LINES },
  });
  if (!answer.ok) throw await problemOf(api, answer);
  for await (const line of linesOf(answer.body)) {
    const { progress, result, problem } = JSON.parse(line);
    if (result) return result;
    if (problem) throw new Problem(problem.status, problem.detail, problem);
    if (progress) onProgress(progress);
  }
  throw new Problem(0, "The back-test was cut off.");
}

async function problemOf(api, answer) {
  if (answer.status === 401) api.onLoginNeeded();
  const body = await answer.json().catch(() => ({}));
  return new Problem(answer.status, body.detail ?? `The server answered ${answer.status}.`, body);
}

async function* linesOf(stream) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = lines.pop();
    yield* lines.filter(Boolean);
  }
}
