// The frames of a stack as the author's own files have them, by the source map that the build left in `__caisson_places`. Read only
// when an error has to be told.

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const FRAME = /^(.*?)([^\s(]*):(\d+):(\d+)(\)?)$/;

let lines = null;

/** A frame with its place mapped; null for those that are not the author's. */
export function place(frame) {
  const [, before, , line, column, after] = FRAME.exec(frame) ?? [];
  if (line === undefined) return frame.includes("native") ? null : frame;
  lines ??= decode(globalThis.__caisson_places?.mappings ?? "");
  const segments = lines[line - 1] ?? [];
  const segment = segments.findLast((one) => one.from <= column - 1) ?? segments[0];
  if (!segment) return null;
  const source = globalThis.__caisson_places.sources[segment.source];
  return source.startsWith(".caisson/") ? null : `${before}${source}:${segment.line + 1}:${segment.column + 1}${after}`;
}

function decode(mappings) {
  let [source, line, column] = [0, 0, 0];
  return mappings.split(";").map((text) => {
    let from = 0;
    const segments = [];
    for (const part of text.split(",")) {
      const [generated, ...rest] = numbers(part);
      if (generated === undefined) continue;
      from += generated;
      if (rest.length < 3) continue;
      source += rest[0];
      line += rest[1];
      column += rest[2];
      segments.push({ from, source, line, column });
    }
    return segments;
  });
}

function numbers(text) {
  const found = [];
  let value = 0;
  let shift = 0;
  for (const letter of text) {
    const digit = DIGITS.indexOf(letter);
    value += (digit & 31) << shift;
    shift += 5;
    if (digit & 32) continue;
    found.push(value & 1 ? -(value >> 1) : value >> 1);
    value = 0;
    shift = 0;
  }
  return found;
}
