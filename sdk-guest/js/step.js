// One entry of a step: the invocation as a context, and what the action gives, or throws, as an outcome or a failure.

import { CapabilityError, Failure, Suspension, json, text, wire_failure } from "./values.js";

const { parse } = JSON;
const FRAMES_MAX = 20;

/**
 * `entry.config` is what `caisson.config` shows; `places` makes a frame of a stack the author's, or null.
 *
 * `begin` calls the function behind the action; what it gives is there in `finish`, once the jobs have run.
 */
export function steps(entry, utf8, places) {
  let settled = null;

  const begin = (find, call) => {
    settled = null;
    try {
      const context = read(call, utf8);
      entry.config = context.config;
      const run = (action) => action(parse(call.input), context);
      const found = find(call.action);
      const result = typeof found.then === "function" ? found.then(run) : run(found);
      if (typeof result?.then === "function") result.then(done, failed);
      else done(result);
    } catch (error) {
      failed(error);
    }
  };
  const done = (value) => {
    try {
      settled = { outcome: outcome(value, utf8) };
    } catch (error) {
      failed(error);
    }
  };
  const failed = (error) => {
    settled = { failure: failure(error, places) };
  };
  const finish = () => settled ?? { failure: wire_failure("action", "SCRIPT_PROMISE_PENDING", PENDING) };
  return { begin, finish };
}

const PENDING =
  "the action returned a promise that nothing will ever settle: there are no timers; to wait, return caisson.suspend(…)";

/** The function behind an action, by its own name or with '_' or in camelCase where the name has '-'. */
export function finder(plugin) {
  return (action) => {
    const names = [action, action.replaceAll("-", "_"), action.replace(/[-_]+(.)/g, (_, letter) => letter.toUpperCase())];
    for (const from of [plugin, plugin.default]) {
      for (const name of names) {
        if (typeof from?.[name] === "function") return (input, context) => from[name](input, context);
      }
    }
    const message = `the plugin has no function for action '${action}': export a function named ${[...new Set(names)].join(" or ")}`;
    throw new Failure({ category: "validation", code: "UNKNOWN_ACTION", message, retry: "never" });
  };
}

function read(call, utf8) {
  return Object.freeze({
    action: call.action,
    ...call.context,
    config: Object.freeze(parse(call.config || "{}")),
    resumed: call.resumed ? { state: kept(call.resumed.state, utf8), wake: wake(call.resumed.wake) } : null,
  });
}

function kept(bytes, utf8) {
  const state = bytes instanceof Uint8Array ? bytes : Uint8Array.from(bytes);
  return state.length === 0 ? null : parse(utf8.decode(state));
}

function wake({ tag, val }) {
  switch (tag) {
    case "signal":
      return { type: tag, name: val.name, payload: parse(val.payload), actor: val.actor ?? null };
    case "approval":
      return {
        type: tag,
        verdict: val.verdict,
        approved: val.verdict === "approved",
        actor: val.actor ?? null,
        comment: val.comment ?? null,
      };
    case "cancelled":
      return { type: tag, reason: val };
    default:
      return { type: tag };
  }
}

function outcome(value, utf8) {
  if (!(value instanceof Suspension)) return { tag: "done", val: json(value ?? null, "the result") };
  const state = value.state === undefined ? new Uint8Array() : utf8.encode(json(value.state, "the state"));
  return {
    tag: "suspend",
    val: { state, signals: value.signals, wakeAfterMs: value.wakeAfterMs, approval: value.approval },
  };
}

function failure(error, places) {
  if (error instanceof Failure || error instanceof CapabilityError) {
    const { category, code, message, details, retry } = error;
    return wire_failure(category, String(code), text(message), details, retry);
  }
  if (!(error instanceof Error)) {
    return wire_failure("action", "SCRIPT_ERROR", `thrown: ${text(error)}`, { thrown: text(error) });
  }
  const stack = String(error.stack ?? "")
    .split("\n")
    .map((frame) => places(frame.trim()))
    .filter((frame) => frame !== null && frame.startsWith("at "))
    .slice(0, FRAMES_MAX);
  const place = /([^\s(]+:\d+:\d+)\)?$/.exec(stack.find((frame) => /:\d+:\d+\)?$/.test(frame)) ?? "")?.[1];
  const message = `${error.name}: ${error.message}${place ? ` (${place})` : ""}`;
  return wire_failure("action", "SCRIPT_ERROR", message, { name: text(error.name), message: text(error.message), stack });
}
