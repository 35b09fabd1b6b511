// Math.random. QuickJS seeds its own when the component is built, so that every step would get the same numbers; this one is seeded with
// the step, its attempt and its entry, so that an entry that is repeated after a crash gets the same numbers again. Not for secrets.

let a = 1;
let b = 2;
let c = 3;
let d = 4;

export function seed({ idempotencyKey, stepId, attempt, entry }) {
  [a, b, c, d] = [1, 2, 3, 4].map((lane) => hash(`${lane} ${idempotencyKey} ${stepId} ${attempt} ${entry}`));
  for (let round = 0; round < 12; round += 1) next();
}

// FNV-1a with a last mixing.
function hash(text) {
  let value = 0x811c9dc5;
  for (let at = 0; at < text.length; at += 1) value = Math.imul(value ^ text.charCodeAt(at), 0x01000193);
  value = Math.imul(value ^ (value >>> 16), 0x45d9f3b);
  return (value ^ (value >>> 16)) | 0;
}

// sfc32.
function next() {
  const sum = (((a + b) | 0) + d) | 0;
  d = (d + 1) | 0;
  a = b ^ (b >>> 9);
  b = (c + (c << 3)) | 0;
  c = (c << 21) | (c >>> 11);
  c = (c + sum) | 0;
  return sum >>> 0;
}

Math.random = () => (next() * 0x200000 + (next() >>> 11)) / 0x20000000000000;
