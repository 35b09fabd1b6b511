// What a plugin in JavaScript sees of Caisson, for both engines: the built-in one (plugins/javascript) and a component built with
// componentize-qjs. `install` gets the host's functions as the interface `caisson:step` has them and makes the globals `caisson`,
// `console`, `fetch`, `TextEncoder` and `TextDecoder` of them; what it returns runs one entry of a step.

import { fetcher, sender } from "./http.js";
import { finder, steps } from "./step.js";
import { CapabilityError, Failure, Suspension, bytes_of, json, refused, text } from "./values.js";

export { finder };

const { parse } = JSON;
const KEYS_MAX = 1000;
const LEVELS = ["trace", "debug", "info", "warn", "error", "fatal"];

export function install(host, utf8, places) {
  const entry = { config: Object.freeze({}) };

  // Calls a capability; what the manifest did not ask for is not imported.
  const ask = (name, call) => {
    if (!host[name]) {
      const message = `${name} is not imported: add "${name}" to \`capabilities\` in caisson-plugin.toml`;
      throw new CapabilityError("policy", "CAPABILITY_NOT_ASKED", message, { tag: "never" });
    }
    try {
      return call(host[name]);
    } catch (error) {
      throw refused(error);
    }
  };
  const write = (level, message, fields) =>
    host.log.write(level, text(message), fields === undefined || fields === null ? null : json(fields, "fields"));
  const line = (level) => (...values) => write(level, values.map(text).join(" "));
  const send = sender((request) => ask("http", (http) => http.send(request)), utf8);

  const caisson = {
    Failure,
    CapabilityError,
    suspend: (options) => new Suspension(options),
    get config() {
      return entry.config;
    },
    log: Object.fromEntries(LEVELS.map((level) => [level, (message, fields) => write(level, message, fields)])),
    progress(percent, message = "") {
      const known = percent !== undefined && percent !== null;
      host.log.progress(known ? Math.min(100, Math.max(0, Math.trunc(Number(percent) || 0))) : null, text(message));
    },
    http: { send },
    secrets: { get: (name) => ask("secrets", (secrets) => secrets.get(String(name))) },
    kv: {
      get(key) {
        const bytes = caisson.kv.getBytes(key);
        if (bytes === null) return null;
        const stored = utf8.decode(bytes);
        try {
          return parse(stored);
        } catch {
          return stored;
        }
      },
      getBytes: (key) => ask("kv", (kv) => kv.get(String(key))) ?? null,
      set(key, value) {
        const bytes = value instanceof Uint8Array ? value : utf8.encode(json(value, "the value"));
        ask("kv", (kv) => kv.set(String(key), bytes));
      },
      delete: (key) => void ask("kv", (kv) => kv.delete(String(key))),
      keys: (prefix = "", limit = KEYS_MAX) => ask("kv", (kv) => kv.keys(String(prefix), Math.trunc(limit))),
    },
    artifacts: {
      put(name, data, mime) {
        const plain = typeof data === "string";
        const binary = data instanceof ArrayBuffer || ArrayBuffer.isView(data);
        const bytes = plain || binary ? bytes_of(data, "data", utf8) : utf8.encode(json(data, "data"));
        const type = mime ?? (plain ? "text/plain; charset=utf-8" : binary ? "application/octet-stream" : "application/json");
        return ask("artifacts", (artifacts) => artifacts.put(String(name), type, bytes));
      },
      get: (id) => ask("artifacts", (artifacts) => artifacts.get(String(id))),
    },
    events: {
      emit(name, payload = null, correlationKey = null) {
        const key = correlationKey === null ? null : String(correlationKey);
        ask("events", (events) => events.emit(String(name), key, json(payload, "the payload")));
      },
    },
    model: { complete: (request) => parse(ask("model", (model) => model.complete(json(request, "the request")))) },
    tools: {
      list: () => parse(ask("tools", (tools) => tools.listTools())),
      call: (name, args = {}) => parse(ask("tools", (tools) => tools.call(String(name), json(args, "the arguments")))),
    },
    assets: {
      read: (name) => host.assets?.read(String(name)) ?? null,
      text(name) {
        const bytes = caisson.assets.read(name);
        return bytes === null ? null : utf8.decode(bytes);
      },
    },
  };
  for (const part of Object.values(caisson)) Object.freeze(part);

  publish({
    caisson: Object.freeze(caisson),
    console: {
      log: line("info"),
      info: line("info"),
      debug: line("debug"),
      trace: line("trace"),
      warn: line("warn"),
      error: line("error"),
    },
    fetch: fetcher(send),
    TextEncoder: class TextEncoder {
      encoding = "utf-8";
      encode(text = "") {
        return utf8.encode(String(text));
      }
    },
    TextDecoder: class TextDecoder {
      encoding = "utf-8";
      decode(bytes = new Uint8Array()) {
        return utf8.decode(bytes_of(bytes, "what is decoded", utf8));
      }
    },
  });
  return steps(entry, utf8, places);
}

function publish(globals) {
  for (const [name, value] of Object.entries(globals)) {
    Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
  }
}
