// Outgoing HTTP: requests as the interface has them, and what came back.

import { bytes_of, json, milliseconds } from "./values.js";

const U32_MAX = 0xffff_ffff;

/** `caisson.http.send` over a function that hands the request to the host. */
export function sender(hand_over, utf8) {
  return (given) => {
    const request = written(typeof given === "string" ? { url: given } : given, utf8);
    return new Response(hand_over(request), request.url, utf8);
  };
}

/** `fetch` over `send`. Small: the request has been answered when the promise is made. */
export function fetcher(send) {
  return (url, { method, headers, body } = {}) =>
    new Promise((resolve) => {
      const response = send({ url: url?.url ?? url, method, headers, body });
      resolve({
        status: response.status,
        ok: response.ok,
        url: response.url,
        headers: response.headers,
        bytes: () => Promise.resolve(response.bytes()),
        text: () => Promise.resolve(response.text()),
        json: () => new Promise((resolve) => resolve(response.json())),
        arrayBuffer: () => Promise.resolve(response.bytes().slice().buffer),
      });
    });
}

function written({ method = "GET", url, headers = {}, body, json: value, timeoutMs } = {}, utf8) {
  if (url === undefined) throw new TypeError("caisson.http.send needs a url");
  const pairs = header_pairs(headers);
  let bytes = body === undefined || body === null ? null : bytes_of(body, "body", utf8);
  if (value !== undefined) {
    bytes = utf8.encode(json(value, "json"));
    if (!pairs.some(([name]) => name.toLowerCase() === "content-type")) pairs.push(["content-type", "application/json"]);
  }
  return {
    method: String(method).toUpperCase(),
    url: String(url),
    headers: pairs,
    body: bytes,
    timeoutMs: (timeoutMs ?? null) === null ? null : Math.min(milliseconds("timeoutMs", timeoutMs), U32_MAX),
  };
}

function header_pairs(headers) {
  if (typeof headers[Symbol.iterator] === "function") return [...headers].map(([name, value]) => [String(name), String(value)]);
  return Object.entries(headers).flatMap(([name, value]) => [].concat(value).map((one) => [name, String(one)]));
}

/** It is all here already, so nothing needs to be awaited. */
class Response {
  #body;
  #utf8;

  constructor({ status, headers, body }, url, utf8) {
    this.status = status;
    this.ok = status >= 200 && status < 300;
    this.url = url;
    this.headers = new Headers(headers);
    this.#body = body;
    this.#utf8 = utf8;
  }

  bytes() {
    return this.#body;
  }

  text() {
    return this.#utf8.decode(this.#body);
  }

  json() {
    return JSON.parse(this.text());
  }
}

class Headers {
  #pairs;

  constructor(pairs) {
    this.#pairs = pairs.map(([name, value]) => [name.toLowerCase(), value]);
  }

  get(name) {
    const wanted = String(name).toLowerCase();
    const values = this.#pairs.filter(([name]) => name === wanted).map(([, value]) => value);
    return values.length > 0 ? values.join(", ") : null;
  }

  has(name) {
    return this.get(name) !== null;
  }

  entries() {
    return this.#pairs.map((pair) => [...pair])[Symbol.iterator]();
  }

  forEach(call) {
    this.#pairs.forEach(([name, value]) => call(value, name, this));
  }

  [Symbol.iterator]() {
    return this.entries();
  }

  toJSON() {
    return Object.fromEntries(this.#pairs);
  }
}
