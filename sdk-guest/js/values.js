// Failures, refusals and suspensions: what an action throws and returns. And how values become text.

const { stringify } = JSON;
const CATEGORIES = ["validation", "expression", "action", "transient", "timeout", "policy", "limit"];

/** Why an action failed: what `retryOn` and `catch` of a workflow select by. */
export class Failure extends Error {
  constructor(options, more) {
    const given = typeof options === "string" ? { ...more, message: options } : { ...options };
    super(given.message ?? given.code ?? "the action failed", "cause" in given ? { cause: given.cause } : undefined);
    this.name = "Failure";
    this.code = given.code ?? "ACTION_FAILED";
    this.category = category(given.category ?? "action");
    this.retry = retry(given.retry);
    this.details = given.details;
  }
}

/** A capability's refusal. Left uncaught, it becomes the step's failure with this code. */
export class CapabilityError extends Error {
  constructor(category, code, message, retry = { tag: "default" }) {
    super(message);
    this.name = "CapabilityError";
    this.code = code;
    this.category = category;
    this.retry = retry;
  }
}

/** What `caisson.suspend` gives: a step returns it to wait. */
export class Suspension {
  constructor({ state, signals = [], wakeAfterMs, approval } = {}) {
    this.state = state;
    this.signals = [].concat(signals).map(String);
    this.wakeAfterMs = milliseconds("wakeAfterMs", wakeAfterMs);
    this.approval = approval === undefined || approval === null ? null : request(approval);
    if (this.signals.length === 0 && this.wakeAfterMs === null && this.approval === null) {
      throw new TypeError("caisson.suspend needs a reason to wake: signals, wakeAfterMs or approval");
    }
  }
}

// What the host throws: { tag, val }, or an error that carries it.
export function refused(error) {
  const { tag, val } = error?.payload ?? error ?? {};
  switch (tag) {
    case "denied":
      return new CapabilityError("policy", "CAPABILITY_DENIED", val, { tag: "never" });
    case "not-found":
      return new CapabilityError("action", "NOT_FOUND", val);
    case "invalid":
      return new CapabilityError("validation", "INVALID_REQUEST", val);
    case "too-large":
      return new CapabilityError("limit", "TOO_LARGE", `more than the ${val} bytes that are allowed`);
    case "quota":
      return new CapabilityError("limit", "QUOTA", val);
    case "timeout":
      return new CapabilityError("timeout", "CAPABILITY_TIMEOUT", "the host's answer took too long");
    case "unavailable":
      return new CapabilityError("transient", "UNAVAILABLE", val);
    case "other":
      return new CapabilityError("action", "CAPABILITY_FAILED", val);
    default:
      return error;
  }
}

function request({ message, summary, approvers = [], deadlineMs } = {}) {
  if (typeof message !== "string" || message === "") throw new TypeError("approval needs a message: what is asked");
  return {
    message,
    summary: summary === undefined ? null : json(summary, "summary"),
    approvers: [].concat(approvers).map(String),
    deadlineMs: milliseconds("deadlineMs", deadlineMs),
  };
}

/** A failure as the interface has it. */
export function wire_failure(category, code, message, details, retry = { tag: "default" }) {
  let written = null;
  try {
    written = details === undefined || details === null ? null : (stringify(details) ?? null);
  } catch {
    // A failure without its details is better than another failure.
  }
  return { category, code, message, details: written, retry };
}

export function json(value, what) {
  let written;
  try {
    written = stringify(value);
  } catch (error) {
    throw new TypeError(`${what} is not JSON: ${error.message}`);
  }
  if (written === undefined) throw new TypeError(`${what} is not JSON: it is ${typeof value}`);
  return written;
}

export function text(value) {
  if (typeof value === "string") return value;
  if (value instanceof Error) return value.stack ? `${value.name}: ${value.message}\n${value.stack}` : String(value);
  if (typeof value === "object" && value !== null) {
    try {
      return stringify(value) ?? String(value);
    } catch {
      // It holds itself, or a big integer.
    }
  }
  return String(value);
}

export function milliseconds(name, value) {
  if (value === undefined || value === null) return null;
  if (typeof value !== "number" || !(value >= 0) || value > Number.MAX_SAFE_INTEGER) {
    throw new TypeError(`${name} is a number of milliseconds, not ${text(value)}`);
  }
  return Math.ceil(value);
}

function category(name) {
  const short = String(name).replace(/Error$/, "").toLowerCase();
  if (CATEGORIES.includes(short)) return short;
  throw new TypeError(`category '${name}' is unknown: there are ${CATEGORIES.join(", ")}`);
}

function retry(advice) {
  if (advice === undefined || advice === null || advice === "default") return { tag: "default" };
  if (advice === "never" || advice === false) return { tag: "never" };
  const after = typeof advice === "object" ? advice.afterMs : advice;
  if (typeof after === "number") return { tag: "after-ms", val: milliseconds("retry.afterMs", after) };
  throw new TypeError(`retry is "default", "never" or { afterMs }, not ${text(advice)}`);
}

/** Text as UTF-8, and bytes of any kind as they are. */
export function bytes_of(data, what, utf8) {
  if (typeof data === "string") return utf8.encode(data);
  if (data instanceof Uint8Array) return data;
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  throw new TypeError(`${what} is text or bytes: use JSON.stringify for other values`);
}
