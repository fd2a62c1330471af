// Bytes as people read them: eight digits of the offset, sixteen bytes, and their characters.

const BYTES_PER_LINE = 16;
const PRINTABLE = /[ -~]/;

export function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

// The first `most` bytes.
export function hexDump(bytes, most) {
  const lines = [];
  for (let at = 0; at < Math.min(bytes.length, most); at += BYTES_PER_LINE) {
    lines.push(line(at, bytes.subarray(at, Math.min(at + BYTES_PER_LINE, most))));
  }
  return lines.join("\n");
}

function line(offset, bytes) {
  const digits = [...bytes].map((byte) => byte.toString(16).padStart(2, "0"));
  const characters = [...bytes].map((byte) => String.fromCharCode(byte)).map((each) => (PRINTABLE.test(each) ? each : "."));
  const left = digits.slice(0, 8).join(" ").padEnd(23);
  const right = digits.slice(8).join(" ").padEnd(23);
  return `${offset.toString(16).padStart(8, "0")}  ${left}  ${right}  ${characters.join("")}`;
}
