// Addresses after the hash: `#/devices/truck-7?range=7d` is a path and its parameters.

// The route of a hash: { path, segments, params }.
export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#/, "").split(/\?(.*)/s);
  const segments = path.split("/").filter(Boolean).map(decode);
  return { path: `/${segments.join("/")}`, segments, params: Object.fromEntries(new URLSearchParams(query)) };
}

// A hash of segments and parameters; empty parameters are left out.
export function address(segments, params = {}) {
  const given = Object.entries(params).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const query = new URLSearchParams(given).toString();
  return `#/${segments.map(encodeURIComponent).join("/")}${query && `?${query}`}`;
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
