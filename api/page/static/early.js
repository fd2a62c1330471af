// The first requests of the page. This module is small and needs no other, so they are under way while those are loading.

export const DEVICES_PAGE = 1_000;

const answers = new Map();

// The answer to a request that was sent already, null for every other. It can be taken once.
export async function takeEarly(url) {
  const answer = answers.get(url);
  answers.delete(url);
  return (await answer) ?? null;
}

function send(path, after = Promise.resolve(true)) {
  const url = new URL(path, document.baseURI.split("#")[0]).href;
  const answer = after.then((may) => (may ? fetch(url, { credentials: "same-origin" }) : null));
  answers.set(url, answer.catch(() => null));  // It is sent again then, and what fails is said.
  return answers.get(url);
}

// Without a session, authentication refuses everything else.
async function isAllowed(answer) {
  const info = await answer.then((found) => found?.clone().json());
  return info?.version !== undefined;
}

if (globalThis.document) {
  const info = send("v1/info");
  if (/^(#?|#\/|#\/fleet([/?].*)?)$/.test(location.hash)) send(`v1/devices?limit=${DEVICES_PAGE}`, isAllowed(info));
}
